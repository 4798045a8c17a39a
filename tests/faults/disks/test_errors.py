"""A disk that answers with errors, or is gone for a while: told of, no harm to other pools, well again afterwards."""

import contextlib
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

import pytest

from tests.faults.disks.callers import PATIENCE, Volume, read, storm, write
from tests.faults.disks.conftest import Ward
from tests.faults.disks.disk import CATALOG, DATA, METADATA, Disk
from tests.faults.rounds import FACTOR, tell
from tests.kernel.conftest import wait_until

pytestmark = pytest.mark.timeout(300)

Trouble = Callable[[Disk], None]


def fails(part: str) -> Trouble:
    """Return the trouble of a disk with one part that does not work."""
    return lambda disk: disk.fails(part)


@contextmanager
def harmless(ward: Ward) -> Iterator[None]:
    """See that the other pool is served before and after, and no call of any kind goes without an answer."""
    yield
    callers = ward.callers
    slowest = callers.lives("meanwhile", "well")
    volume, doomed = (callers.create(name, "well") for name in ("asked", "doomed"))
    calls: list[Callable[[], object]] = [
        callers.health,
        callers.info,
        lambda: callers.create("sick", "sick"),
        lambda: callers.volume_health(volume),
        lambda: callers.delete(doomed),
    ]
    begun = time.monotonic()
    codes = storm(calls)
    tell(f"slowest call of the other pool {slowest:.1f} s, all answers {time.monotonic() - begun:.1f} s: {codes}")
    assert slowest < PATIENCE
    assert [codes[0], codes[1], codes[3], codes[4]] == ["OK"] * 4
    assert codes[2] != "DEADLINE_EXCEEDED"
    assert "pool well" not in callers.health()


TROUBLES: Final[dict[str, tuple[Trouble, set[str]]]] = {
    "catalog": (fails(CATALOG), {"CatalogFailed"}),
    "metadata": (fails(METADATA), {"NeedsRepair", "PoolFailed"}),
    "writes": (Disk.fails_writes, {"CatalogFailed", "NeedsRepair", "PoolFailed"}),
    "data": (fails(DATA), set()),
}
"""Each with the pool's conditions of which one must be told; with none it is a matter of the volume."""


@pytest.mark.parametrize("how", TROUBLES if FACTOR > 1 else ("catalog", "metadata"))
def test_a_part_that_fails_is_told_of_and_all_is_well_after_a_start_on_a_sound_disk(ward: Ward, how: str) -> None:
    trouble, told = TROUBLES[how]
    callers = ward.callers
    volume = callers.furnished("before", "sick")
    trouble(ward.sick)

    last: list[str] = []

    def is_told() -> bool:
        with contextlib.suppress(OSError):
            write(volume.path / f"more-{time.monotonic_ns()}")
        storm([lambda: callers.create(f"more-{time.monotonic_ns()}", "sick")])
        if not told:
            return "FileSystemFailed" in callers.volume_health(volume.id)
        last[:] = callers.info()["sick"]
        return bool(told & set(last))

    with harmless(ward):
        try:
            wait_until(is_told, 60)
        finally:
            tell(f"{how}: told at the end: {last}")
    _well_again(ward, volume)
    path = callers.stage(volume.id)
    assert read(path / "data") == volume.sum
    callers.lives("after", "sick")
    assert not callers.info()["sick"]


def test_bad_blocks_are_errors_to_who_reads_them_and_to_nobody_else(ward: Ward) -> None:
    callers = ward.callers
    volume = callers.furnished("before", "sick")
    callers.unstage(volume.id)
    ward.sick.has_bad_blocks(DATA)
    with harmless(ward):
        assert storm([lambda: callers.stage(volume.id)]) == ["INTERNAL"]
    ward.sick.is_well()
    assert read(callers.stage(volume.id) / "data") == volume.sum


def test_a_disk_that_vanishes_and_comes_back_brings_its_pool_back(ward: Ward) -> None:
    callers = ward.callers
    volume = callers.furnished("before", "sick")
    ward.sick.vanishes()
    with harmless(ward):
        wait_until(lambda: "DiskFailed" in callers.info()["sick"], 30)
        assert "pool sick" in callers.health()
    _well_again(ward, volume)
    path = callers.stage(volume.id)
    assert read(path / "data") == volume.sum
    callers.lives("after", "sick")


def test_a_node_that_starts_beside_a_disk_that_hangs_serves_the_other_pool(ward: Ward) -> None:
    callers = ward.callers
    volume = callers.furnished("before", "sick")
    callers.unstage(volume.id)
    ward.node.stop(signal.SIGTERM)
    ward.sick.hangs()
    begun = time.monotonic()
    ward.node.start()
    took = time.monotonic() - begun
    with harmless(ward):
        assert callers.info()["sick"] == ["DiskHangs"]
    ward.sick.is_well()
    tell(f"started in {took:.1f} s")
    wait_until(lambda: not callers.info()["sick"], 60)
    assert read(callers.stage(volume.id) / "data") == volume.sum


def _well_again(ward: Ward, volume: Volume) -> None:
    """Do what the conditions say: end what uses the pool, make its disk well, repair it if need be, restart."""
    ward.sick.is_well()
    repair = {"NeedsRepair", "PoolFailed"} & set(ward.callers.info()["sick"])
    ward.callers.unstage(volume.id)
    ward.node.stop(signal.SIGTERM)
    if repair:
        ward.node.command("repair", "--pool", "sick", "--yes")
    ward.node.start()
    assert not ward.callers.info()["sick"], ward.callers.health()
