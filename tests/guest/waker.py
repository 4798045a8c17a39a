"""Waking a guest whose timer was lost."""

import contextlib
import os
import signal
import threading
from collections.abc import Callable
from typing import Final

_EVERY: Final = 1.0


class Waker:
    """Signals a guest's kernel each second as its timer does, in a thread of its own; a context manager.

    A kernel in User-Mode Linux (seen with Linux 6.1) may be left with no timer set (arch/um/os-Linux/time.c): what
    sleeps then sleeps for ever, and its idle loop spins. A signal that no timer sent is one interrupt more, at which
    the kernel looks at what is due and sets the timer anew.
    """

    def __init__(self, kernel: Callable[[], int | None]) -> None:
        """Use ``kernel`` to find the process, None until it takes such signals; it may be gone when it is found."""
        self._kernel = kernel
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run, name="waker", daemon=True)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_error: object) -> None:
        self._ending.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._ending.wait(_EVERY):
            # Whoever has the number by now is not signalled: the descriptor is of the process that was found.
            with contextlib.suppress(ProcessLookupError):
                if found := self._kernel():
                    descriptor = os.pidfd_open(found)
                    try:
                        if self._kernel() == found:
                            signal.pidfd_send_signal(descriptor, signal.SIGALRM)
                    finally:
                        os.close(descriptor)
