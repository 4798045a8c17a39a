"""Run a command in a guest kernel that has device-mapper's thin target.

The exit status is the command's own; 124 if it was still running at its deadline, 125 if the guest was lost (it did
not boot, panicked, or went away), 126 if this machine cannot run a guest.
"""

import argparse
import contextlib
import os
import signal
import sys
from types import FrameType
from typing import Final, NoReturn

from tests.guest import host
from tests.guest.boot import DeadlineError, GuestLostError, Result
from tests.guest.machine import Guest, MissingError, private_directory, show_output, sparse_disk

_DEADLINE: Final = 124
_LOST: Final = 125
_MISSING: Final = 126


def main() -> int:
    """Parse the command line, run, and return the exit status."""
    options = _parser().parse_args()
    command = options.command[1:] if options.command[:1] == ["--"] else options.command
    signal.signal(signal.SIGTERM, _terminate)
    signal.signal(signal.SIGHUP, _terminate)
    try:
        return _run(options, command).status
    except GuestLostError as error:
        print(f"guest: LOST: {error}", file=sys.stderr)
        return _LOST
    except DeadlineError as error:
        print(f"guest: DEADLINE: {error}", file=sys.stderr)
        return _DEADLINE
    except MissingError as error:
        print(f"guest: {error}", file=sys.stderr)
        return _MISSING
    except KeyboardInterrupt:
        return 128 + signal.SIGINT


def _run(options: argparse.Namespace, command: list[str]) -> Result:
    with contextlib.ExitStack() as stack:
        if options.keep_disks:
            directory = options.keep_disks
            os.makedirs(directory, exist_ok=True)
        else:
            directory = stack.enter_context(private_directory())
        sizes = options.disk or ["8G"]
        disks = [sparse_disk(os.path.join(directory, f"disk{number}"), size) for number, size in enumerate(sizes)]
        environment = dict(
            pair.split("=", 1) if "=" in pair else (pair, os.environ.get(pair, "")) for pair in options.env
        )
        if options.host:
            return host.run(
                command, disks, udev=options.udev, environment=environment, deadline=options.timeout, cwd=os.getcwd()
            )
        guest = stack.enter_context(
            Guest(
                disks,
                memory_mib=options.memory,
                udev=options.udev,
                environment=environment,
                share=options.share,
                sink=show_output,
            )
        )
        return guest.run(command, deadline=options.timeout, cwd=os.getcwd())


def _terminate(number: int, _frame: FrameType | None) -> NoReturn:
    sys.exit(128 + number)  # unwinds, so that the guest and its files go


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python3 -m tests.guest", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--memory", type=int, default=1024, metavar="MIB", help="the guest's memory (default: 1024)")
    parser.add_argument(
        "--disk", action="append", metavar="SIZE", help="a blank disk, sparse; /dev/ubda, ubdb … (default: one of 8G)"
    )
    parser.add_argument("--keep-disks", metavar="DIR", help="keep the disks there, and use those that are there")
    parser.add_argument(
        "--timeout", type=float, default=600, metavar="S", help="deadline, boot included (default: 600)"
    )
    parser.add_argument("--udev", action="store_true", help="run systemd-udevd in the guest")
    parser.add_argument("--env", action="append", default=[], metavar="NAME[=VALUE]", help="set or pass on a variable")
    parser.add_argument("--share", default="", metavar="DIR", help="a directory the guest may write to, at /run/shared")
    parser.add_argument(
        "--host", action="store_true", help="run on this machine's own kernel, as root, with the disks as loop devices"
    )
    parser.add_argument("command", nargs=argparse.REMAINDER, metavar="-- COMMAND…")
    return parser


if __name__ == "__main__":
    parsed = main()
    sys.exit(parsed)
