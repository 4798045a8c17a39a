"""A disk that can be told to fail: a loop device below a device of device-mapper whose table is swapped."""

import os
from collections.abc import Callable, Sequence
from typing import Final

from csi.dm.ioctl import Control
from csi.units import MIB, SECTOR
from tests.kernel.conftest import run

DATA: Final = "pool_tdata"
METADATA: Final = "pool_tmeta"
CATALOG: Final = "catalog"

_DELAY: Final = 30_000
"""Milliseconds."""
_BLOCK: Final = 4096
_BAD: Final = 32 * MIB


class Disk:
    """One disk, well until it is told otherwise."""

    def __init__(self, name: str, below: str) -> None:
        run("modprobe", "--all", "dm-flakey", "dm-dust", "dm-delay")
        self.name = name
        self.path = f"/dev/mapper/{name}"
        self._below = below
        self._whole = int(run("blockdev", "--getsz", below))
        run("dmsetup", "create", name, "--table", f"0 {self._whole} linear {below} 0")

    def is_well(self) -> None:
        """Be a sound disk from now on, with all that was written."""
        self._swap([f"0 {self._whole} linear {self._below} 0"])

    def fails_writes(self) -> None:
        """Answer every write with an error (dm-flakey); a flush is one, so this cannot be said of a part."""
        self._swap([f"0 {self._whole} flakey {self._below} 0 0 1 1 error_writes"])

    def has_bad_blocks(self, part: str) -> None:
        """Have the first blocks of a part of the pool bad until they are written anew, as a medium does (dm-dust)."""
        at, size = self._place(part)
        self._swap([f"0 {self._whole} dust {self._below} 0 {_BLOCK}"])
        first = at * SECTOR // _BLOCK
        with Control() as control:
            for block in range(first, first + min(size * SECTOR, _BAD) // _BLOCK):
                control.message(self.name, f"addbadblock {block}")
            control.message(self.name, "enable")

    def fails(self, part: str) -> None:
        """Answer everything in a part of the pool with an error; flushes go on."""
        self._trouble(part, lambda at, size: f"{at} {size} error")

    def vanishes(self) -> None:
        """Answer everything with an error, as a disk that was pulled."""
        self._swap([f"0 {self._whole} error"])

    def is_slow(self) -> None:
        """Answer after half a minute (dm-delay)."""
        self._swap([f"0 {self._whole} delay {self._below} 0 {_DELAY}"])

    def hangs(self) -> None:
        """Answer nothing until it is well."""
        run("dmsetup", "suspend", "--nolockfs", "--noflush", self.name)

    def remove(self) -> None:
        """Take it away."""
        run("dmsetup", "remove", "--retry", self.name)

    def _trouble(self, part: str, line: Callable[[int, int], str]) -> None:
        at, size = self._place(part)
        lines = [f"0 {at} linear {self._below} 0", line(at, size)]
        if end := self._whole - at - size:
            lines.append(f"{at + size} {end} linear {self._below} {at + size}")
        self._swap(lines)

    def _place(self, part: str) -> tuple[int, int]:
        """Return where a part of the pool begins on the disk, and its length, in sectors."""
        number = os.stat(self.path).st_rdev
        mine = f"{os.major(number)}:{os.minor(number)}"
        rows = [line.split() for line in run("dmsetup", "table").splitlines()]
        (found,) = (row for row in rows if row[0].endswith(f"-{part}:") and row[3:5] == ["linear", mine])
        return int(found[5]), int(found[2])

    def _swap(self, lines: Sequence[str]) -> None:
        run("dmsetup", "load", self.name, "--table", "\n".join(lines))
        run("dmsetup", "suspend", "--nolockfs", "--noflush", self.name)
        run("dmsetup", "resume", self.name)
