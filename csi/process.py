"""Running other programs: argument lists, a deadline for each, bounded output, nothing left behind."""

import contextlib
import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from csi.errors import CommandError

OUTPUT_LIMIT: Final = 64 << 20
_TAIL: Final = 800
# What a killed program may take to go. A process in uninterruptible sleep (a hung disk) does not go at all, and
# waiting for it would hang us too.
_KILL_GRACE: Final = 2.0


@dataclass(frozen=True)
class Completed:
    """What a program left: its exit status and both outputs, decoded with replacement characters."""

    status: int
    stdout: str
    stderr: str


def run(
    argv: Sequence[str],
    *,
    deadline: float,
    stdin: str | None = None,
    env: Mapping[str, str] | None = None,
    ok: Sequence[int] = (0,),
) -> Completed:
    """Run ``argv`` and return what it left, if its exit status is one of ``ok``.

    ``deadline`` is in seconds; past it the whole process group is killed. ``env`` is laid over a minimal environment
    (PATH, ``LC_ALL=C``), never over ours. Raise CommandError for any other status, for a program that cannot be
    started, at the deadline, and for more than 64 MiB of output.
    """
    name = os.path.basename(argv[0])
    environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C"}
    for inherited in ("DM_DISABLE_UDEV",):
        if inherited in os.environ:
            environment[inherited] = os.environ[inherited]
    environment.update(env or {})
    try:
        child = subprocess.Popen(  # noqa: S603 - an argument list of our own making, never a shell
            list(argv),
            stdin=subprocess.PIPE if stdin is not None else subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment,
            start_new_session=True,
        )
    except OSError as error:
        raise CommandError("run", name, error.strerror or "cannot start", errno=error.errno or 0) from error
    try:
        out, err = child.communicate(stdin.encode() if stdin is not None else None, timeout=deadline)
    except subprocess.TimeoutExpired:
        _kill(child)
        raise CommandError(
            "run", " ".join(argv), f"no answer within {deadline:g} s", way_out="look for a hung disk"
        ) from None
    except BaseException:
        _kill(child)
        raise
    if len(out) + len(err) > OUTPUT_LIMIT:
        raise CommandError("run", name, f"more than {OUTPUT_LIMIT >> 20} MiB of output")
    done = Completed(child.returncode, out.decode(errors="replace"), err.decode(errors="replace"))
    if done.status not in ok:
        said = (done.stderr.strip() or done.stdout.strip() or "no message")[-_TAIL:]
        raise CommandError("run", " ".join(argv), f"exit status {done.status}: {said}")
    return done


def _kill(child: subprocess.Popen[bytes]) -> None:
    """Kill the child's process group and reap it, if it goes."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGKILL)
    try:
        child.communicate(timeout=_KILL_GRACE)
    except subprocess.TimeoutExpired:
        # In uninterruptible sleep: it stays until the kernel lets it go; its pipes are ours to close.
        for pipe in (child.stdin, child.stdout, child.stderr):
            if pipe is not None:
                pipe.close()
