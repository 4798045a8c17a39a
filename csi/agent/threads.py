"""Threads that go on through faults and end together."""

import threading
from collections.abc import Callable
from typing import Final

import structlog

_AFTER_FAULT: Final = 10.0
_JOIN: Final = 10.0

log = structlog.get_logger()


class Threads:
    """A set of threads; what they run returns soon after ``ending`` is set and the ``wakers`` were called."""

    def __init__(self, *wakers: Callable[[], None]) -> None:
        self.ending = threading.Event()
        self._wakers = wakers
        self._threads: list[threading.Thread] = []

    def run(self, name: str, body: Callable[[], None]) -> None:
        """Run ``body`` in a thread, again after a fault."""
        thread = threading.Thread(target=self._go, args=(name, body), name=name, daemon=True)
        self._threads.append(thread)
        thread.start()

    def stop(self) -> None:
        """End all; one that is held up by the kernel for more than 10 s is left behind."""
        self.ending.set()
        for wake in self._wakers:
            wake()
        for thread in self._threads:
            thread.join(_JOIN)
            if thread.is_alive():
                log.warning("thread did not end", thread=thread.name)

    def _go(self, name: str, body: Callable[[], None]) -> None:
        while True:
            try:
                body()
            except Exception:
                # A fault of ours; a pool that nobody looks after any more would be a worse one.
                log.exception("thread broken off by a fault, goes on", thread=name)
                if not self.ending.wait(_AFTER_FAULT):
                    continue
            return
