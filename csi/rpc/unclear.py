"""Volumes of which it is not known whether a node has made them.

A node that was lost while it was at it may have made the volume. Until it says so, no other node may be asked, for then
there would be two; but one that stays away holds up a claim for ten minutes only. It is a hint that lives as long as
this process: what it cannot prevent is an orphan, which holds nobody's data and is told of.
"""

import threading
import time
from collections import OrderedDict
from collections.abc import Sequence
from typing import Final

from csi.rpc.fleet import Seat

_LASTS: Final = 600.0
"""Seconds from when it was lost; csi-provisioner comes again within five minutes."""
_MOST: Final = 10_000


class Unclear:
    """The seats at which a volume may have been made, by its name."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._seats: OrderedDict[str, tuple[str, float]] = OrderedDict()

    def add(self, name: str, seat: Seat) -> None:
        """Note that ``seat`` may have made it."""
        with self._lock:
            self._seats.pop(name, None)
            self._seats[name] = (seat.name, time.monotonic() + _LASTS)
            while len(self._seats) > _MOST:
                self._seats.popitem(last=False)

    def forget(self, name: str) -> None:
        """Note that it is known now."""
        with self._lock:
            self._seats.pop(name, None)

    def at(self, name: str, seat: Seat) -> bool:
        """Tell whether ``seat`` may have made it."""
        with self._lock:
            known, until = self._seats.get(name, ("", 0.0))
        return known == seat.name and time.monotonic() < until

    def first(self, name: str, seats: Sequence[Seat]) -> Sequence[Seat]:
        """Return those of ``seats`` to ask: only the one that may have made it, if it is among them."""
        return [seat for seat in seats if self.at(name, seat)] or seats
