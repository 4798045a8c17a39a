"""Durations that were measured, and what is said of them."""

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TypeVar

_Result = TypeVar("_Result")

_MILLI = 1000.0


@dataclass(frozen=True)
class Sample:
    """Durations in seconds, in the order in which they were measured; at least one."""

    seconds: tuple[float, ...]

    def __post_init__(self) -> None:
        if not self.seconds:
            message = "a sample needs a duration"
            raise ValueError(message)

    @classmethod
    def of(cls, seconds: Iterable[float]) -> "Sample":
        """Take durations from anywhere."""
        return cls(tuple(seconds))

    def __len__(self) -> int:
        return len(self.seconds)

    @property
    def median(self) -> float:
        """The middle one; of an even number the mean of the two in the middle. Seconds."""
        return self.percentile(50)

    @property
    def longest(self) -> float:
        """The longest, in seconds."""
        return max(self.seconds)

    def percentile(self, share: float) -> float:
        """Return the duration that ``share`` percent do not exceed, between two measured ones by their distance."""
        ordered = sorted(self.seconds)
        place = (len(ordered) - 1) * share / 100
        below = int(place)
        above = min(below + 1, len(ordered) - 1)
        return ordered[below] + (ordered[above] - ordered[below]) * (place - below)

    def __str__(self) -> str:
        """Show the median and how many there are: ``2.13 ms (200)``."""
        return f"{milliseconds(self.median)} ({len(self)})"

    def summary(self) -> dict[str, float | int]:
        """Return what is kept of it: count, and in milliseconds its median, its tails and its longest."""
        tails = {f"p{share}_ms": round(self.percentile(share) * _MILLI, 4) for share in (5, 50, 95, 99)}
        return {"count": len(self), **tails, "longest_ms": round(self.longest * _MILLI, 4)}


def milliseconds(seconds: float) -> str:
    """Write a duration for a person, three digits of it: ``0.412 ms``, ``2.13 ms``, ``1490 ms``."""
    value = seconds * _MILLI
    for limit, digits in ((1, 3), (10, 2), (100, 1)):
        if value < limit:
            return f"{value:.{digits}f} ms"
    return f"{value:.0f} ms"


def timed(call: Callable[[], object]) -> float:
    """Return how many seconds ``call`` took."""
    return clocked(call)[0]


def clocked(call: Callable[[], _Result]) -> tuple[float, _Result]:
    """Return how many seconds ``call`` took, and what it returned."""
    begun = time.perf_counter()
    result = call()
    return time.perf_counter() - begun, result
