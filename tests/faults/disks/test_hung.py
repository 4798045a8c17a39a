"""A disk that answers nothing, or too late, holds up its own pool alone, and nothing stays when it is well again."""

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.faults.disks.callers import PATIENCE, Callers, read, storm
from tests.faults.disks.conftest import Ward
from tests.faults.disks.disk import Disk
from tests.faults.rounds import FACTOR, tell
from tests.kernel.conftest import wait_until

pytestmark = pytest.mark.timeout(300 + 120 * FACTOR)

_STORM = 12
"""Requests of each kind in one wave."""


def _asked(callers: Callers, volume: str, wave: int) -> list[Callable[[], object]]:
    calls: list[Callable[[], object]] = []
    for number in range(_STORM):
        calls += [
            lambda number=number: callers.create(f"during-{wave}-{number}", "sick"),  # type: ignore[misc]
            lambda number=number: callers.snapshot(f"during-{wave}-{number}", volume),  # type: ignore[misc]
            lambda: callers.stats(volume),
            lambda: callers.volume_health(volume),
            callers.health,
            callers.info,
        ]
    return calls


@pytest.mark.parametrize("trouble", [Disk.hangs, Disk.is_slow] if FACTOR > 1 else [Disk.hangs])
def test_a_disk_that_hangs_holds_up_its_pool_alone_and_is_told_of(ward: Ward, trouble: Callable[[Disk], None]) -> None:
    callers = ward.callers
    volume = callers.furnished("before", "sick")
    assert "pool sick" not in callers.health()
    before = _processes()
    trouble(ward.sick)
    slowest, codes = 0.0, []
    for wave in range(1 + FACTOR):
        begun = time.monotonic()
        codes += storm(_asked(callers, volume.id, wave))
        assert time.monotonic() - begun < PATIENCE + 15
        slowest = max(slowest, callers.lives(f"well-{wave}", "well"))
    begun = time.monotonic()
    said = callers.health()
    took = time.monotonic() - begun
    stuck = _processes() - before
    tell(
        f"{len(codes)} requests: { {code: codes.count(code) for code in sorted(set(codes))} }; the other pool's slowest"
        f" call {slowest:.1f} s; health in {took:.1f} s; {stuck} processes more"
    )
    assert "pool sick" in said
    assert "pool well" not in said
    assert callers.info()["sick"]
    assert slowest < PATIENCE
    assert stuck <= 2
    ward.sick.is_well()
    wait_until(lambda: not callers.info()["sick"], 60)
    wait_until(lambda: storm([lambda: callers.stats(volume.id)]) == ["OK"], 60)
    assert read(volume.path / "data") == volume.sum
    callers.lives("after", "sick")
    wait_until(lambda: _processes() <= before, 60)


def _processes() -> int:
    """Return how many processes there are that are not the kernel's own."""
    return sum(1 for each in Path("/proc").glob("[0-9]*/exe") if each.is_symlink() and _named(each))


def _named(link: Path) -> bool:
    try:
        return bool(link.readlink())
    except OSError:
        return False
