"""Requests that wait at the same time, carried out together by one of the threads that wait."""

import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

from csi.errors import BusyError, UnavailableError

Wanted = TypeVar("Wanted")
Made = TypeVar("Made")

Carry = Callable[[Sequence[Wanted]], Sequence[Made | Exception]]
"""Carries out what is wanted, and returns for each what came of it, in their order."""


class _Order(Generic[Wanted, Made]):
    """What somebody waits for, and what came of it: None until it is over."""

    def __init__(self, wanted: Wanted) -> None:
        self.wanted = wanted
        self.outcome: Made | Exception | None = None


class Combiner(Generic[Wanted, Made]):
    """Has what many ask for at once done in one go, so that they share what it costs but once.

    Whoever comes while nobody is at it does it at once, for itself. Those who come meanwhile wait, and the first of
    them to get the lock does it for all of them.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: deque[_Order[Wanted, Made]] = deque()

    def have(
        self, wanted: Wanted, carry: Carry[Wanted, Made], *, operation: str, subject: str, patience: float
    ) -> Made:
        """Return what came of ``wanted``, or raise it; ``operation`` and ``subject`` are for errors.

        Raise BusyError if it was not begun within ``patience`` seconds. What is begun is waited for, as by the thread
        that is at it: what the caller holds for it must not be let go before.
        """
        order: _Order[Wanted, Made] = _Order(wanted)
        self._waiting.append(order)
        # A lock that is free is taken without a look at the clock.
        if not self._lock.acquire(blocking=False) and not self._lock.acquire(timeout=patience):
            if self._withdrawn(order):
                why = f"others have been at it for {patience:g} s"
                raise BusyError(operation, subject, why, way_out="send it again later")
            self._lock.acquire()
        try:
            # Whoever had the lock may have done it.
            if order.outcome is None:
                self._carry_out(carry)
        finally:
            self._lock.release()
        if order.outcome is None:
            raise UnavailableError(operation, subject, "it was broken off", way_out="send it again later")
        if isinstance(order.outcome, Exception):
            raise order.outcome
        return order.outcome

    def _withdrawn(self, order: _Order[Wanted, Made]) -> bool:
        """Take an order back that nobody has begun, if so."""
        try:
            self._waiting.remove(order)
        except ValueError:
            return False
        return True

    def _carry_out(self, carry: Carry[Wanted, Made]) -> None:
        """Carry out all that waits; the caller holds the lock."""
        orders = []
        while self._waiting:
            orders.append(self._waiting.popleft())
        if not orders:
            return
        try:
            outcomes = carry([order.wanted for order in orders])
            for order, outcome in zip(orders, outcomes, strict=True):
                order.outcome = outcome
        except Exception as error:  # noqa: BLE001 - it is for those who wait
            for order in orders:
                order.outcome = error
