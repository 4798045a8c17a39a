"""Freezing a group of thin devices, never for longer than 2 s, even if this process dies in the middle of it.

A suspended device holds up everybody who writes to it, and whoever suspended it may crash, hang or be killed. So a
second process, the guard, is forked before the first thread starts, and is told over a pipe what is about to be
suspended and until when. At that deadline, and when the pipe closes because the other end died, it

1. sends SIGUSR1 to the thread that may be waiting inside the suspend: ``dm_suspend`` waits interruptibly for I/O that
   is under way (drivers/md/dm.c, ``dm_wait_for_completion``) and fails with EINTR, leaving the device running;
2. resumes every device of the group that is suspended, again and again until it is told that the freeze is over.

The one thing that no signal ends is the kernel writing out a mounted file system's dirty pages (``freeze_super``) to a
pool that is full: only space ends that, from discards followed by a commit (``ThinPool.status(flush=True)``), for an
extension would wait behind it. The rest of the group runs meanwhile, and the device itself as soon as the kernel lets
go of it. So the caller looks at the pool's mode and room right before it freezes anything.

The protocol is one line of JSON a message, each written in one piece: ``{"freeze": id, "names": […], "thread": tid,
"deadline": seconds}`` on the monotonic clock, which both processes share, before the first suspend; ``{"over": id}``
after the last resume.

In a container this process may be the first of its PID namespace, and with it the kernel would kill the guard. Then
the parts are swapped: the first process becomes the guard, the rest of the program goes on in its child, and the
guard passes signals on and ends with the child's exit status.
"""

import contextlib
import errno
import itertools
import json
import os
import select
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Self

from csi.dm.freeze_guard import SIGNALS, guard, guard_as_init
from csi.dm.thin_device import ThinDevice
from csi.errors import BusyError, DriverError, KernelError, StateError, UnavailableError

LIMIT: Final = 2.0
"""Seconds that a freeze may last."""

# How long to stand in line behind other freezes of the same device, each of which ends within its own limit.
_PATIENCE: Final = 10.0
# Seconds off the processor right before a freeze and right after it. A writer that we came between then ends its write
# before it is held, and one that was held goes on at once: where all share one processor, a freeze that holds 2 ms held
# one writer in a hundred for 5 ms, and for 3.5 ms with this.
_BREATH: Final = 0.0005
_THAW_TRIES: Final = 3
_THAW_PAUSE: Final = 0.05
_FULL_POOL: Final = "the pool is full, or its disk is slow or hangs: see `thinpool-csi info`"


@dataclass(frozen=True)
class Frozen:
    """A freeze that is under way."""

    subject: str
    limit: float
    deadline: float
    """On the monotonic clock."""

    @property
    def expired(self) -> bool:
        """Whether the guard may have resumed the devices by now: what is cut from now on is not one point in time."""
        return time.monotonic() >= self.deadline

    def too_long(self) -> DriverError:
        """Return the error that says so."""
        return UnavailableError("freeze", self.subject, f"it took longer than {self.limit:g} s", way_out=_FULL_POOL)


class Freezer:
    """Freezes groups of thin devices. Any thread may; the same device waits for its turn."""

    def __init__(self, pipe: int) -> None:
        """Use ``Freezer.start``."""
        self._pipe = pipe
        self._pid = os.getpid()
        self._writing = threading.Lock()
        self._numbers = itertools.count(1)
        self._turn = threading.Condition()
        self._taken: set[str] = set()

    @classmethod
    def start(cls) -> Self:
        """Fork the guard. Call it from the main thread, before any other thread exists and before grpc is imported.

        Takes SIGUSR1 for itself. As the first process of a PID namespace (a container), the guard is *this* process,
        and what returns is a child of it.
        """
        # Installed so that it interrupts system calls (signal.signal never sets SA_RESTART); waking up is all it does.
        signal.signal(signal.SIGUSR1, _wake)
        reader, writer = os.pipe2(os.O_CLOEXEC)
        is_init = os.getpid() == 1
        # What ends a program must not end the guard before it is ready for it: held back until it is.
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
        child = os.fork()
        if bool(child) is is_init:
            os.close(writer)
            if is_init:
                guard_as_init(reader, child, mask)
            guard(reader, mask)
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        os.close(reader)
        os.set_blocking(writer, False)
        return cls(writer)

    @contextlib.contextmanager
    def frozen(self, devices: Sequence[ThinDevice], *, limit: float = LIMIT) -> Iterator[Frozen]:
        """Suspend ``devices`` in order, run the body, resume them in reverse, whatever failed.

        Raise UnavailableError if that took longer than ``limit`` seconds, be it the suspending or the body (what the
        body did has to be undone then), StateError if somebody else froze one of the file systems, BusyError if another
        freeze of one of the devices did not end, UnavailableError if the guard is gone, and what the kernel refuses.
        """
        names = [device.name for device in devices]
        subject = ", ".join(names)
        with self._claimed(names, subject):
            frozen = Frozen(subject, limit, time.monotonic() + limit)
            number = next(self._numbers)
            message = {"freeze": number, "names": names, "thread": threading.get_native_id()}
            self._tell(message | {"deadline": frozen.deadline}, subject)
            time.sleep(_BREATH)
            try:
                with contextlib.ExitStack() as held:
                    for device in devices:
                        self._freeze(device, frozen, held)
                    yield frozen
                    if frozen.expired:
                        raise frozen.too_long()
                time.sleep(_BREATH)
            finally:
                self._tell({"over": number}, subject)

    def guarded(self) -> bool:
        """Tell whether the guard is there still: without it nothing is frozen any more."""
        poll = select.poll()
        poll.register(self._pipe, 0)
        # pipe(7): the writing end has POLLERR once nobody reads.
        return not poll.poll(0)

    def close(self) -> None:
        """Let the guard go. No freeze may be under way."""
        pipe, self._pipe = self._pipe, -1
        if pipe >= 0:
            os.close(pipe)

    def _freeze(self, device: ThinDevice, frozen: Frozen, held: contextlib.ExitStack) -> None:
        try:
            device.freeze()
        except KernelError as error:
            if error.errno == errno.EBUSY:
                # Not suspended, and not ours to resume.
                why, way_out = "somebody else froze its file system", "thaw it (fsfreeze -u)"
                raise StateError("freeze", device.name, why, errno=error.errno, way_out=way_out) from error
            if error.errno == errno.EINTR:
                raise frozen.too_long() from error
            # A flush that failed leaves the device running; to resume it then costs nothing and may matter.
            held.callback(_thaw, device)
            raise
        held.callback(_thaw, device)
        if frozen.expired:
            raise frozen.too_long()

    @contextlib.contextmanager
    def _claimed(self, names: Sequence[str], subject: str) -> Iterator[None]:
        mine = set(names)
        with self._turn:
            if not self._turn.wait_for(lambda: not mine & self._taken, _PATIENCE):
                raise BusyError("freeze", subject, f"another freeze did not end within {_PATIENCE:g} s")
            self._taken |= mine
        try:
            yield
        finally:
            with self._turn:
                self._taken -= mine
                self._turn.notify_all()

    def _tell(self, message: dict[str, object], subject: str) -> None:
        line = json.dumps(message, separators=(",", ":")).encode() + b"\n"
        with self._writing:
            try:
                written = os.write(self._pipe, line)
            except OSError as error:
                why = "the guard that ends a freeze in time is gone or stuck"
                raise UnavailableError(
                    "freeze", subject, why, errno=error.errno or 0, way_out="restart the node"
                ) from error
            if written != len(line):
                raise UnavailableError("freeze", subject, "the guard takes no messages", way_out="restart the node")


def _thaw(device: ThinDevice) -> None:
    for left in reversed(range(_THAW_TRIES)):
        try:
            device.thaw()
        except KernelError as error:
            if error.errno == errno.ENXIO:
                # Gone, and with it the freeze.
                return
            if not left:
                raise
            time.sleep(_THAW_PAUSE)
        else:
            return


def _wake(_number: int, _frame: object) -> None:
    """Do nothing: that the signal was taken is all it is for."""
