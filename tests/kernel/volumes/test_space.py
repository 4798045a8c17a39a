"""Pools that grow by themselves, pools that are full, and what is refused before they are."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from csi.dm import block
from csi.dm.targets import PoolMode
from csi.errors import NoSpaceError
from csi.model import SENTINEL, Device, ThinId
from csi.settings import WhenFull
from csi.units import MIB, Bytes
from csi.volumes import sentinel
from csi.volumes.reports import Severity
from tests.kernel.conftest import wait_until
from tests.kernel.volumes.conftest import MakeServed
from tests.kernel.volumes.served import Served, loop_disk
from tests.kernel.volumes.writing import Filler

_ABOVE = 1 << 20
"""Thin ids that no catalog of a test comes to."""


@pytest.fixture(scope="module")
def growing(make_module_served: MakeServed) -> Served:
    """Open a pool of 100 MiB on a disk with room for four times as much."""
    return make_module_served(512, thinp_percent=20.0, overprovision_ratio=20.0)


@pytest.fixture(scope="module")
def module_small(make_module_served: MakeServed) -> Served:
    """Open a pool of 148 MiB that has no room to grow."""
    return make_module_served(268, min_free_space_percent=0, overprovision_ratio=20.0)


@pytest.fixture
def small(module_small: Served) -> Iterator[Served]:
    """Lend it, empty and with its ballast, before and after."""
    yield module_small
    module_small.clear()
    module_small.let(min_free_space_percent=0, overprovision_ratio=20.0)


def _mode(served: Served) -> PoolMode:
    return served.pool.thin.status().mode


def _free(served: Served) -> int:
    """Return the free data in bytes."""
    status = served.pool.thin.status(flush=True)
    return (status.data_total - status.data_used) * served.pool.block_size


def test_data_is_extended_each_time_a_writer_crosses_the_threshold(growing: Served) -> None:
    volume = growing.create("v", 200 * MIB)
    path = growing.staged(volume)
    totals = [growing.pool.thin.status().data_total]
    filler = Filler(f"{path}/file", 160 * MIB)
    while not filler.done:
        total = growing.pool.thin.status().data_total
        if total != totals[-1]:
            totals.append(total)
        time.sleep(0.02)
    filler.finish()
    assert len(totals) >= 3
    assert totals == sorted(totals)
    status = growing.pool.thin.status()
    assert status.mode is PoolMode.READ_WRITE
    assert status.data_used >= 160 * MIB // growing.pool.block_size
    growing.clear()


def test_metadata_is_extended_each_time_it_crosses_the_threshold(growing: Served) -> None:
    pool = growing.pool
    totals = [pool.thin.status().metadata_total]
    # Every thin device takes a block of metadata of its own.
    made = 0
    for _ in range(2):
        status = pool.thin.status()
        short = status.metadata_total * 80 // 100 - status.metadata_used + 50
        for number in range(made, made + short):
            pool.thin.create_thin(ThinId(_ABOVE + number))
        made += short
        wait_until(lambda: pool.thin.status().metadata_total > totals[-1], 30)
        totals.append(pool.thin.status().metadata_total)
    growing.let(min_free_space_percent=90)
    with pytest.raises(NoSpaceError, match=r"\d+ of \d+ metadata blocks are free, less than 90 %"):
        growing.create("v")
    assert growing.node.capacity(None).available == 0
    assert [each.reason for each in growing.node.storage_health()] == ["MetadataSpaceLow"]


def test_a_full_pool_pauses_its_writers_and_everything_goes_on_when_a_volume_is_deleted(small: Served) -> None:
    wait_until(lambda: sentinel.ballast(small.pool), 20)
    victim, volume = small.create("victim", 40 * MIB, block=True), small.create("v", 200 * MIB)
    idle = small.create("idle")
    there = Path(small.staged(idle))
    Filler(small.staged(victim), 40 * MIB).finish()
    small.unstage(victim)
    place = small.staged(volume)
    ballast = sentinel.ballast(small.pool)
    filler = Filler(f"{place}/file", _free(small) // MIB * MIB + 16 * MIB)
    # Nothing else helps, so the ballast is given away, which lasts for a moment.
    small.filled()
    assert ballast
    assert not filler.done

    # Buffered, not on the disk: what a flush would wait for.
    (there / "dirty").write_bytes(b"d" * MIB)
    _assert_refused_at_once(small, idle)
    reasons = [each.reason for each in small.node.storage_health()]
    assert reasons[0] == "PoolFull"
    (found,) = small.node.volume_health(volume.handle)
    assert (found.reason, found.severity) == ("PoolFull", Severity.INACCESSIBLE)
    assert small.node.capacity(None).available == 0

    small.node.delete_volume(victim.handle)
    filler.finish()
    assert _mode(small) is PoolMode.READ_WRITE
    assert small.node.storage_health() == []
    assert small.node.volume_health(volume.handle) == []
    Path(place, "more").write_text("x")
    small.unstage(volume)
    small.node.delete_volume(volume.handle)
    small.reclaimed()
    wait_until(lambda: sentinel.ballast(small.pool) == sentinel.ballast_size(small.pool), 20)


def _assert_refused_at_once(served: Served, volume: Device) -> None:
    """See that what would freeze the volume or take space is refused, and the volume runs on."""
    begun = time.monotonic()
    for request in (
        lambda: served.node.create_snapshot("s", volume.handle),
        lambda: served.node.create_group("g", [volume.handle]),
        lambda: served.copy("c", volume.handle),
        lambda: served.create("new"),
    ):
        with pytest.raises(NoSpaceError, match="is full"):
            request()
    assert time.monotonic() - begun < 10
    info = served.pool.device(volume.handle.thin).info()
    assert info is not None
    assert not info.suspended
    assert served.node.snapshots() == []


def test_a_full_pool_goes_on_when_a_disk_is_added(make_served: MakeServed, tmp_path: Path) -> None:
    with loop_disk(tmp_path / "disk", 256 * MIB) as disk:
        served = make_served(268, min_free_space_percent=0)
        volume = served.create("v", 300 * MIB, block=True)
        filler = Filler(served.staged(volume), _free(served) // MIB * MIB + 12 * MIB)
        served.filled()
        total = served.pool.thin.status().data_total
        served.pool.group.add_devices([disk])
        filler.finish()
        assert served.pool.thin.status().data_total > total
        served.clear()
        served.leave()


def test_a_full_pool_fails_its_writers_where_that_was_asked_for(make_served: MakeServed) -> None:
    served = make_served(268, min_free_space_percent=0, when_full=WhenFull.ERROR, agent=False)
    volume = served.create("v", 300 * MIB, block=True)
    filler = Filler(served.staged(volume), _free(served) // MIB * MIB + 8 * MIB)
    wait_until(lambda: filler.done, 60)
    assert filler.error is not None
    assert served.pool.thin.table.error_if_no_space


def test_below_the_minimum_free_share_nothing_new_is_made_and_the_figures_are_told(small: Served) -> None:
    small.let(min_free_space_percent=40)
    first, second = small.create("a", 60 * MIB, block=True), small.create("b", 60 * MIB, block=True)
    Filler(small.staged(first), 60 * MIB).finish()
    assert small.node.capacity(None).available > 0
    Filler(small.staged(second), 40 * MIB).finish()
    for volume in (first, second):
        small.unstage(volume)
    figures = r"[\d.]+MiB of 1\d\dMiB of data space are free, less than 40 %"
    for request in (
        lambda: small.create("c"),
        lambda: small.copy("c", first.handle),
        lambda: small.node.create_snapshot("s", first.handle),
        lambda: small.node.create_group("g", [first.handle, second.handle]),
        lambda: small.node.expand_volume(first.handle, Bytes(80 * MIB), Bytes(0)),
    ):
        with pytest.raises(NoSpaceError, match=figures):
            request()
    assert small.node.capacity(None).available == 0
    assert [each.reason for each in small.node.storage_health()] == ["DataSpaceLow"]
    small.node.delete_volume(second.handle)
    small.reclaimed()
    assert small.create("c").size


@pytest.mark.parametrize("ratio", [0.1, 1.0, 2.5, 7.3])
def test_capacity_is_exactly_what_creation_accepts(small: Served, ratio: float) -> None:
    small.let(overprovision_ratio=ratio)
    taken = small.create("taken", 5 * MIB, block=True)
    for number in range(3):
        told = small.node.capacity(None)
        assert told.available == told.maximum
        with pytest.raises(NoSpaceError, match="can promise"):
            small.create(f"over-{number}", told.maximum + MIB, block=True)
        with pytest.raises(NoSpaceError, match="can promise"):
            small.node.expand_volume(taken.handle, Bytes(taken.size + told.maximum + MIB), Bytes(0))
        small.create(f"half-{number}", told.maximum // 2 // MIB * MIB, block=True)
    told = small.node.capacity(None)
    grown = small.node.expand_volume(taken.handle, Bytes(taken.size + told.maximum), Bytes(0))
    assert grown.size == taken.size + told.maximum
    assert small.node.capacity(None).available == 0
    with pytest.raises(NoSpaceError):
        small.create("one more", MIB, block=True)
    # Snapshots promise nothing; what is deleted is promised no longer.
    small.node.create_snapshot("s", taken.handle)
    small.node.delete_volume(taken.handle)
    assert small.node.capacity(None).available == grown.size
    assert small.create("all of it", grown.size, block=True).size == grown.size


def test_what_can_be_extended_into_counts_as_capacity(growing: Served) -> None:
    growing.let(min_free_space_percent=0, overprovision_ratio=1.0)
    space = growing.pool.space()
    whole = (space.data_total + space.extendable) * growing.pool.block_size
    assert growing.node.capacity(None).available == whole // MIB * MIB


def test_ballast_that_was_dropped_while_it_was_filled_is_filled_anew(make_served: MakeServed) -> None:
    """A write that the full pool held up lands behind what was given away."""
    pool = make_served(1024, agent=False).pool
    size = sentinel.ballast_size(pool)
    assert sentinel.refill(pool, size, lambda: False) == size
    device = pool.device(SENTINEL)
    block.discard(device.path, Bytes(0), pool.block_size)
    wait_until(lambda: sentinel.ballast(pool) == size - pool.block_size, 10)
    sentinel.refill(pool, size, lambda: False)
    sentinel.refill(pool, size, lambda: False)
    assert sentinel.ballast(pool) == size
