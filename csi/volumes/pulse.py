"""Whether something that may hang still answers: asked by one thread, waited for by many, within a bound.

A disk that hangs keeps whoever touches it in the kernel, beyond the reach of any signal. So it is one thread that
touches it first; everybody else is told what came of that, and of a disk that hangs no more than one thread is held.
"""

import mmap
import os
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Final

from csi.errors import DriverError, KernelError

_PATIENCE: Final = 5.0
_FRESH: Final = 2.0
"""Seconds for which an answer counts."""
_LENGTH: Final = 4096


class Pulse:
    """Calls ``look``, which raises DriverError for a trouble that it finds. May be felt from any thread."""

    def __init__(self, look: Callable[[], None]) -> None:
        self._look = look
        self._lock = threading.Lock()
        self._done = threading.Event()
        self._done.set()
        self._begun = self._ended = float("-inf")
        self._trouble: DriverError | None = None

    def hangs(self) -> float:
        """Return for how many seconds it has not answered; 0 if it answers, which is waited for at most 5 s."""
        if self._fresh():
            return 0.0
        with self._lock:
            if self._done.is_set():
                if self._fresh():
                    return 0.0
                self._done.clear()
                self._begun = time.monotonic()
                try:
                    threading.Thread(target=self._ask, name="pulse", daemon=True).start()
                except RuntimeError:
                    # No thread is to be had, which is no fault of the disk's.
                    self._done.set()
                    return 0.0
            begun = self._begun
        if self._done.wait(max(0.0, begun + _PATIENCE - time.monotonic())):
            return 0.0
        return time.monotonic() - begun

    @property
    def trouble(self) -> DriverError | None:
        """What was found when it answered last."""
        return self._trouble

    def _fresh(self) -> bool:
        return self._done.is_set() and time.monotonic() - self._ended < _FRESH

    def _ask(self) -> None:
        trouble: DriverError | None = None
        try:
            self._look()
        except DriverError as error:
            trouble = error
        finally:
            self._trouble, self._ended = trouble, time.monotonic()
            self._done.set()


class DiskPulses:
    """The pulses of disks by path, each felt by reading the disk's first block."""

    def __init__(self) -> None:
        self._pulses: dict[str, Pulse] = {}

    def hang(self, path: str) -> float:
        """Return for how many seconds the disk has not answered, as ``Pulse.hangs`` does; an error is an answer."""
        return self._pulses.setdefault(path, Pulse(partial(read_first, path))).hangs()


def read_first(path: str) -> None:
    """Read the first block of the disk at ``path`` itself, past every cache. Raise KernelError."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECT | os.O_CLOEXEC)
        try:
            with mmap.mmap(-1, _LENGTH) as buffer:
                os.preadv(descriptor, [buffer], 0)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise KernelError("read", path, "the disk does not answer", errno=error.errno or 0) from error
