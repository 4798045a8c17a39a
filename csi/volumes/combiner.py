"""Requests that wait at the same time, carried out together by one of the threads that wait."""

import threading
from collections.abc import Callable, Sequence
from typing import Final, Generic, TypeVar

from csi.errors import UnavailableError

MOST: Final = 16
"""Requests that are carried out together: where the disk hangs, no more threads hang with it."""

Wanted = TypeVar("Wanted")
Made = TypeVar("Made")

Carry = Callable[[Sequence[Wanted]], Sequence[Made | Exception]]
"""Carries out what is wanted, and returns for each what came of it, in their order."""


class _Order(Generic[Wanted, Made]):
    """What somebody wants, and what came of it."""

    def __init__(self, wanted: Wanted) -> None:
        self.wanted = wanted
        self.outcome: Made | Exception | None = None
        self.over = False
        self.called = threading.Lock()
        """Let go when it is over, or is the first of those to be carried out next."""
        self.called.acquire()


class Combiner(Generic[Wanted, Made]):
    """Has what many ask for at once done in one go, so that they share what it costs but once.

    Whoever comes while nobody is at it does it at once, for itself. Those who come meanwhile wait, and the first of
    them then does it for all of them.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._busy = False
        self._waiting: list[_Order[Wanted, Made]] = []

    def have(
        self, wanted: Wanted, carry: Carry[Wanted, Made], *, operation: str, subject: str, patience: float
    ) -> Made:
        """Return what came of ``wanted``, or raise it; ``operation`` and ``subject`` are for errors.

        Raise UnavailableError if it was not begun within ``patience`` seconds. What is begun is waited for, as by the
        thread that is at it: what the caller holds for it must not be let go before.
        """
        order: _Order[Wanted, Made] = _Order(wanted)
        if self._must_wait(order) and not order.called.acquire(timeout=patience):
            if self._withdrawn(order):
                why = f"others have been at it for {patience:g} s"
                raise UnavailableError(operation, subject, why, way_out="look for a hung disk")
            order.called.acquire()
        if not order.over:
            self._carry_out(order, carry)
        if order.outcome is None:
            raise UnavailableError(operation, subject, "it was broken off", way_out="send it again later")
        if isinstance(order.outcome, Exception):
            raise order.outcome
        return order.outcome

    def _must_wait(self, order: _Order[Wanted, Made]) -> bool:
        with self._lock:
            if self._busy:
                self._waiting.append(order)
                return True
            self._busy = True
            return False

    def _withdrawn(self, order: _Order[Wanted, Made]) -> bool:
        """Take an order back that nobody has begun, if so."""
        with self._lock:
            if order not in self._waiting:
                return False
            self._waiting.remove(order)
            return True

    def _carry_out(self, first: _Order[Wanted, Made], carry: Carry[Wanted, Made]) -> None:
        """Carry out ``first`` and what waits with it; call those who waited, and the next to do so."""
        with self._lock:
            orders = [first, *self._waiting[: MOST - 1]]
            del self._waiting[: MOST - 1]
        try:
            outcomes = carry([order.wanted for order in orders])
            for order, outcome in zip(orders, outcomes, strict=True):
                order.outcome = outcome
        except Exception as error:  # noqa: BLE001 - it is for those who wait
            for order in orders:
                order.outcome = error
        finally:
            with self._lock:
                following = self._waiting[:1]
                del self._waiting[:1]
                self._busy = bool(following)
            for order in orders:
                order.over = True
                if order is not first:
                    order.called.release()
            for order in following:
                order.called.release()
