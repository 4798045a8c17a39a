"""Locks by name: one that refuses a second holder, one that lets it wait.

A request that finds its object busy is refused at once (CSI: ABORTED, the caller comes back); what two different
requests may rightly share for a moment, such as the source of many clones, is waited for, with a bound.
"""

import threading
from collections.abc import Hashable, Iterator
from contextlib import contextmanager

from csi.errors import BusyError


class Claims:
    """Objects that are being worked on; a second claim is refused."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._held: set[Hashable] = set()

    def held(self, thing: Hashable) -> bool:
        """Tell whether somebody holds it now."""
        with self._lock:
            return thing in self._held

    @contextmanager
    def claim(self, operation: str, *objects: Hashable) -> Iterator[None]:
        """Hold ``objects``, all or none. Raise BusyError if one of them is held."""
        wanted = set(objects)
        with self._lock:
            taken = wanted & self._held
            if taken:
                busy = min(str(each) for each in taken)
                raise BusyError(operation, busy, "another operation on it is under way", way_out="send it again later")
            self._held |= wanted
        try:
            yield
        finally:
            with self._lock:
                self._held -= wanted


class Turns:
    """Objects that are used in turn; the next user waits, within a bound."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._turns: dict[Hashable, tuple[threading.Lock, int]] = {}

    @contextmanager
    def turn(self, operation: str, *objects: Hashable, patience: float) -> Iterator[None]:
        """Hold ``objects``, taken in one order by everybody. Raise BusyError after ``patience`` seconds on one."""
        held: list[Hashable] = []
        try:
            for each in sorted(set(objects), key=str):
                lock = self._enter(each)
                # A lock that is free is taken without a look at the clock.
                if not lock.acquire(blocking=False) and not lock.acquire(timeout=patience):
                    self._leave(each)
                    raise BusyError(
                        operation, str(each), f"still in use after {patience:g} s", way_out="send it again later"
                    )
                held.append(each)
            yield
        finally:
            for each in reversed(held):
                self._turns[each][0].release()
                self._leave(each)

    def _enter(self, each: Hashable) -> threading.Lock:
        with self._lock:
            lock, users = self._turns.get(each, (threading.Lock(), 0))
            self._turns[each] = (lock, users + 1)
            return lock

    def _leave(self, each: Hashable) -> None:
        with self._lock:
            lock, users = self._turns[each]
            if users == 1:
                del self._turns[each]
            else:
                self._turns[each] = (lock, users - 1)
