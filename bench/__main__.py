"""Measure the driver beside LVM and beside what cannot be avoided, all in one run on one kernel.

It needs root, a kernel with dm-thin, and three empty disks: two of 16 GiB or more, for the
driver's pool and for LVM's, and one of 8 GiB or more for a pool of 10,000 volumes. A disk that is
not empty is refused; afterwards the disks are empty again. Every figure is a ratio of two things that were
measured in turns in the same run, so the figures of two machines can be compared, and the
times in milliseconds beside them cannot. A figure off its goal is marked, and fails nothing.

For instance:
  make bench                            all of it, in a guest kernel, in a quarter of an hour
  make bench ONLY=create_vs_limit       one figure, with those that are measured along with it
  python -m bench --disks /dev/sdb,/dev/sdc,/dev/sdd
                                        on this machine's own kernel
  python -m bench --list                the figures, what they mean, their goals
"""

import argparse
import importlib
import os
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Final

from bench import picture
from bench.goals import GOALS
from bench.report import Report, line
from csi import log
from csi.dm.freezer import Freezer
from csi.errors import DriverError

PARTS: Final = {
    "operations": (
        *(f"engine_{each}_vs_lvm" for each in ("create", "snapshot", "clone", "activate", "delete")),
        *("create_vs_lvm", "snapshot_vs_lvm", "create_vs_limit", "snapshot_vs_limit"),
    ),
    "burst": ("burst_vs_limit",),
    "freezing": ("freeze_vs_limit", "group_freeze_32"),
    "staging": ("stage_vs_tools", "restage_vs_tools", "stage_templated"),
    "clones": ("clones_1000_space",),
    "deleting": ("delete_stall",),
    "data_path": tuple(f"data_path_{what}_{size}" for what in ("read", "write") for size in ("4k", "64k")),
    "idle": ("rss_node_mib",),
    "flat": ("flat_create", "flat_snapshot", "flat_lvm"),
    "crowded": ("list_10k", "start_10k_vs_thin_ls", "rss_node_10k_mib"),
}
"""The modules of this package that measure, in their order, and the figures of each."""

_DISKS: Final = 3


def main() -> int:
    """Run the parts that are asked for; return the exit status."""
    options = _parser().parse_args()
    if options.list:
        sys.stdout.writelines(line((name, "", str(goal), "", goal.meaning)) for name, goal in GOALS.items())
        return 0
    disks = options.disks or os.environ.get("THINPOOL_TEST_DISKS", "").split()
    if len(disks) != _DISKS or os.geteuid():
        sys.stderr.write("bench: name three empty disks (--disks A,B,C), and be root\n")
        return 2
    # Before any thread, and before gRPC is loaded: it forks.
    freezer = Freezer.start()
    try:
        return _run(options, (disks[0], disks[1], disks[2]), freezer)
    except DriverError as error:
        sys.stderr.write(f"bench: {error}\n")
        return 1
    finally:
        freezer.close()


def _run(options: argparse.Namespace, disks: tuple[str, str, str], freezer: Freezer) -> int:
    from bench.rig import Rig  # noqa: PLC0415 - it loads gRPC

    report = Report()
    begun = time.monotonic()
    options.output.mkdir(parents=True, exist_ok=True)
    try:
        with ExitStack() as stack:
            base = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-")))
            log.configure("json", "info", stack.enter_context((options.output / "node.log").open("w")))
            rig = stack.enter_context(Rig(disks, base, freezer, report))
            rig.quick = options.quick
            for part in options.only or PARTS:
                started = time.monotonic()
                importlib.import_module(f"bench.{part}").run(rig)
                report.tell(f"{part}: {time.monotonic() - started:.0f} s")
    finally:
        # Also what was measured before something failed.
        report.write(options.output / "results.json", quick=options.quick, seconds=round(time.monotonic() - begun))
        if report.curves:
            picture.write(options.output / "results.svg", "What one more volume takes", report.curves)
        sys.stdout.write("\n" + report.values())
    return 0


def _disks(text: str) -> list[str]:
    return text.split(",")


def parts_of(text: str) -> list[str]:
    """Return the parts that measure the figures of ``text``, in their order. Raise ArgumentTypeError."""
    wanted = []
    for name in text.split(","):
        found = [part for part, figures in PARTS.items() if name in (part, *figures)]
        if not found:
            message = f"no figure or part {name!r}: see --list"
            raise argparse.ArgumentTypeError(message)
        wanted += found
    return [part for part in PARTS if part in wanted]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m bench", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--disks", type=_disks, metavar="A,B,C", help="the empty disks (default: those of the guest)")
    parser.add_argument(
        "--only",
        type=parts_of,
        metavar="NAME,…",
        help=f"only these figures or parts ({', '.join(PARTS)})",
    )
    parser.add_argument("--quick", action="store_true", help="few calls: to try the benchmark itself")
    parser.add_argument("--list", action="store_true", help="list the figures and their goals, and measure nothing")
    parser.add_argument(
        "--output",
        type=Path,
        default=Path(__file__).parent,
        metavar="DIR",
        help="where results.json, results.svg and the node's log go (default: this package)",
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
