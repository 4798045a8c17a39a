"""Holding an operation at one of its steps, while others come."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from types import ModuleType


class Gate:
    """A step of an operation at which the first to come there waits."""

    def __init__(self, step: str) -> None:
        self._step = step
        self._reached = threading.Event()
        self._opened = threading.Event()

    def hit(self, step: str) -> None:
        """Stand in for ``csi.failpoint.hit``."""
        if step == self._step and not self._reached.is_set():
            self._reached.set()
            assert self._opened.wait(30)

    def open(self) -> None:
        """Let it go on."""
        self._opened.set()

    @contextmanager
    def held(self, executor: ThreadPoolExecutor, call: Callable[[], object]) -> Iterator[Future[object]]:
        """Run ``call`` in a thread up to the step; let it go on at the end."""
        future = executor.submit(call)
        try:
            assert self._reached.wait(30)
            yield future
        finally:
            self.open()
            future.exception(30)


GateAt = Callable[[ModuleType, str], Gate]
"""Puts a gate at a step of a module."""
