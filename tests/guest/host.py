"""The same on this machine's own kernel, where it has dm-thin and the user asks for it."""

import contextlib
import os
import signal
import subprocess
from collections.abc import Iterator, Mapping, Sequence

from tests.guest.boot import DeadlineError, Result
from tests.guest.machine import MissingError, base_environment

_COMMAND_LIMIT = 60.0


def run(
    argv: Sequence[str],
    disks: Sequence[str],
    *,
    udev: bool,
    environment: Mapping[str, str],
    deadline: float,
    cwd: str,
) -> Result:
    """Run ``argv`` here with ``disks`` as loop devices; its output goes straight to ours.

    Raise MissingError if this machine has no dm-thin or we are not root, DeadlineError if ``deadline`` seconds pass.
    """
    _require(udev=udev)
    with contextlib.ExitStack() as stack:
        devices = [stack.enter_context(_loop(disk)) for disk in disks]
        variables = base_environment() | {"THINPOOL_TEST_KERNEL": "host", "THINPOOL_TEST_DISKS": " ".join(devices)}
        if not udev:
            variables["DM_DISABLE_UDEV"] = "1"
        process = subprocess.Popen(
            list(argv),
            stdin=subprocess.DEVNULL,
            env=variables | dict(environment),
            cwd=cwd,
            start_new_session=True,
        )
        try:
            return Result(process.wait(timeout=deadline), "", "")
        except subprocess.TimeoutExpired:
            message = f"the command was still running after {deadline:g} s and was killed"
            raise DeadlineError(message) from None
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _require(*, udev: bool) -> None:
    if os.geteuid() != 0:
        message = "--host needs root"
        raise MissingError(message)
    # The module may be built in or loadable; the kernel knows best, once asked.
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        subprocess.run(["modprobe", "dm-thin-pool"], check=False, capture_output=True, timeout=_COMMAND_LIMIT)
    try:
        targets = _output(["dmsetup", "targets"])
    except (OSError, subprocess.SubprocessError):
        targets = ""
    if not any(line.startswith("thin-pool ") for line in targets.splitlines()):
        message = "this machine's kernel has no dm-thin: run without --host, in a guest"
        raise MissingError(message)
    if udev and not os.path.exists("/run/udev/control"):
        message = "--udev: no udevd runs on this machine"
        raise MissingError(message)


@contextlib.contextmanager
def _loop(disk: str) -> Iterator[str]:
    device = _output(["losetup", "--find", "--show", disk]).strip()
    try:
        yield device
    finally:
        _output(["losetup", "--detach", device])


def _output(argv: Sequence[str]) -> str:
    return subprocess.run(argv, check=True, capture_output=True, text=True, timeout=_COMMAND_LIMIT).stdout
