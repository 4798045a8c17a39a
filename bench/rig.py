"""What the parts of the benchmark share: the disks and the pools on them, the caller, the report."""

from contextlib import ExitStack
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Self

from bench.calls import Caller
from bench.lvm_pool import LvmPool
from bench.our_pool import OurPool
from bench.report import Report
from bench.shipped import refusals
from csi.dm.freezer import Freezer


class Rig:
    """Opens each thing when a part first asks for it, and takes everything down at the end."""

    def __init__(self, disks: tuple[str, str, str], base: Path, freezer: Freezer, report: Report) -> None:
        self.base = base
        self.freezer = freezer
        self.report = report
        self.quick = False
        self._disks = disks
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.__exit__(kind, error, trace)

    def few(self, count: int, quick: int) -> int:
        """Return how often to do something: ``count`` times, or ``quick`` times in the small form."""
        return quick if self.quick else count

    @cached_property
    def ours(self) -> OurPool:
        """Our pool, on the first disk, empty between the parts."""
        self.report.tell("making our pool")
        pool = OurPool("bench", self._disks[0], self.base / "ours", self.freezer)
        self._stack.callback(pool.remove)
        return pool

    @cached_property
    def lvm(self) -> LvmPool:
        """LVM's pool, on the second disk."""
        self.report.tell("making LVM's pool")
        pool = LvmPool(self._disks[1])
        self._stack.callback(pool.close)
        return pool

    @cached_property
    def crowd(self) -> OurPool:
        """The pool that comes to hold 10,000 volumes and snapshots, on the third disk."""
        self.report.tell("making the crowded pool")
        # The tests' stand-in of a cluster wants a pool of this name.
        pool = OurPool("fast", self._disks[2], self.base / "crowd", self.freezer)
        self._stack.callback(pool.remove)
        return pool

    @cached_property
    def shipped(self) -> Path:
        """Where a node's process finds that what is not shipped cannot be imported."""
        refusals(self.base / "shipped")
        return self.base / "shipped"

    @cached_property
    def caller(self) -> Caller:
        """The process that calls."""
        caller = Caller()
        self._stack.callback(caller.close)
        return caller
