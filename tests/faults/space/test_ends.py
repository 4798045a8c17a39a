"""The catalog's file system full, the ids near their end: said early, refused clearly, and what is there goes on."""

import os
import struct
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from csi.errors import DriverError, NoSpaceError, UnavailableError
from csi.model import THIN_ID_LIMIT, Device, ThinId
from csi.units import MIB, Bytes
from csi.volumes.node import Node
from tests.faults.rounds import tell
from tests.kernel.conftest import wait_until
from tests.kernel.metadata import Metadata
from tests.kernel.volumes.conftest import MakeServed
from tests.kernel.volumes.served import Served

_CLOCK_AT = 44
"""``time`` in ``thin_disk_superblock`` (drivers/md/dm-thin-metadata.c)."""


@pytest.fixture(scope="module")
def module_small(make_module_served: MakeServed) -> Served:
    """Open a pool of 148 MiB."""
    return make_module_served(268, overprovision_ratio=1000.0)


@pytest.fixture
def small(module_small: Served) -> Iterator[Served]:
    """Lend it, empty before and after."""
    yield module_small
    module_small.clear()


def _reasons(served: Served) -> list[str]:
    return [each.reason for each in served.node.storage_health()]


def _assert_refused(match: str, *requests: Callable[[], object]) -> None:
    for request in requests:
        with pytest.raises(NoSpaceError, match=match):
            request()


def _assert_goes_on(served: Served, volume: Device) -> None:
    """See that a volume that is there can be used, grown and deleted, and its space comes back."""
    served.staged(volume)
    grown = served.node.expand_volume(volume.handle, Bytes(2 * volume.size), Bytes(0))
    assert grown.size == 2 * volume.size
    served.unstage(volume)
    served.node.delete_volume(volume.handle)
    served.reclaimed()


# -- the catalog ------------------------------------------------------------------------------------------------


def _leave(file: Path, left: int) -> None:
    """Fill the file system that ``file`` is to lie on, but for ``left`` bytes and what is kept for root."""
    there = os.statvfs(file.parent)
    with open(file, "ab") as filler:
        os.posix_fallocate(filler.fileno(), filler.tell(), there.f_bavail * there.f_frsize - left)


def _fill(file: Path) -> None:
    """Fill the file system to the last byte."""
    with open(file, "ab", buffering=0) as filler:
        for size in (MIB, 4096, 1):
            try:
                while True:
                    filler.write(b"x" * size)
            except OSError:
                pass


def test_a_catalog_that_runs_out_of_room_says_so_and_takes_nothing_new_while_what_is_there_goes_on(
    small: Served,
) -> None:
    served = small
    volume, other = served.create("v"), served.create("other")
    filler = served.pool.catalog_dir / "filler"
    _leave(filler, 6 * MIB)
    assert _reasons(served) == ["CatalogSpaceLow"]
    assert served.node.capacity(None).available == 0
    _assert_refused(
        "are free for the catalog",
        lambda: served.create("new"),
        lambda: served.copy("copy", other.handle),
        lambda: served.node.create_snapshot("s", other.handle),
        lambda: served.node.create_group("g", [other.handle]),
    )
    served.staged(volume)
    served.unstage(volume)
    served.node.delete_volume(volume.handle)
    served.reclaimed()
    filler.unlink()
    assert _reasons(served) == []
    served.create("new")


def test_what_a_full_catalog_does_not_take_is_refused_clearly_and_done_once_there_is_room(
    small: Served,
) -> None:
    served = small
    volumes = [served.create(f"v{number}") for number in range(200)]
    filler = served.pool.catalog_dir / "filler"
    _fill(filler)
    deleted, refused = set(), ""
    for volume in volumes:
        try:
            served.node.delete_volume(volume.handle)
            deleted.add(volume.handle)
        except UnavailableError as error:
            refused = str(error)
            break
    tell(f"{len(deleted)} deletions, then: {refused}")
    assert "full" in refused
    assert "the catalog's file system" in refused
    # A start finds what was answered, or says why it cannot; it goes on once there is room.
    served.stop()
    node = Node(served.place, [served.spec])
    node.open()
    closed = node.closed.get(served.spec.name)
    tell(f"not opened: {closed}")
    assert closed is None or "catalog" in str(closed)
    node.close()
    filler.unlink()
    served.open()
    served.reclaimed()
    assert {device.handle for device in served.node.volumes()} == {each.handle for each in volumes} - deleted
    assert not served.node.check().findings
    served.create("new")


# -- the ids ----------------------------------------------------------------------------------------------------


def test_ids_near_their_end_are_told_of_and_the_last_is_followed_by_a_clear_refusal(make_served: MakeServed) -> None:
    served = make_served(512, overprovision_ratio=20.0)
    first, second = served.create("first"), served.create("second")
    served.staged(second)
    assert _reasons(served) == []
    # As if all the others had been handed out.
    served.pool.catalog.begin_at(THIN_ID_LIMIT - 3)
    served.pool.cover(THIN_ID_LIMIT - 3)
    assert _reasons(served) == ["IdsLow"]
    assert served.node.capacity(None).available > 0
    last = [served.create("last"), served.node.create_snapshot("s", second.handle)]
    with pytest.raises(NoSpaceError, match="16,777,216 ids of the pool are used up; make another pool"):
        served.node.create_group("g", [first.handle, second.handle])
    last.append(served.copy("copy", second.handle))
    assert last[-1].handle.thin == THIN_ID_LIMIT - 1
    _assert_refused(
        "used up",
        lambda: served.create("new"),
        lambda: served.copy("another", first.handle),
        lambda: served.node.create_snapshot("another", second.handle),
    )
    assert served.node.capacity(None).available == 0
    _assert_goes_on(served, first)
    _assert_goes_on(served, last[0])
    served.stop()
    served.open()
    assert _reasons(served) == ["IdsLow"]
    assert not served.node.check().findings
    with pytest.raises(NoSpaceError, match="used up"):
        served.create("new")
    _assert_goes_on(served, last[2])


def test_the_snapshot_clock_is_never_nearer_to_its_end_than_the_ids(
    small: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    served = small
    volume, idle = served.create("v"), served.create("idle")
    served.staged(volume)
    cut = served.pool.thin.create_snap

    def cut_and_fail(thin: ThinId, origin: ThinId, *, confirm: bool) -> None:
        cut(thin, origin, confirm=confirm)
        raise UnavailableError("cut", "it", "the test says so")

    for number in range(8):
        served.node.create_snapshot(f"s{number}", volume.handle)
        served.copy(f"c{number}", idle.handle)
        served.node.create_group(f"g{number}", [volume.handle, idle.handle])
        with monkeypatch.context() as patched:
            patched.setattr(served.pool.thin, "create_snap", cut_and_fail)
            for source in (volume, idle):
                with pytest.raises(DriverError):
                    served.node.create_snapshot(f"failed {number}", source.handle)
    served.pool.thin.status(flush=True)
    wait_until(lambda: not served.pool.catalog.counts().deleting, 30)
    superblock = Metadata.of(served.control, served.pool.thin.name).read(0)
    (clock,) = struct.unpack_from("<I", superblock, _CLOCK_AT)
    handed_out = THIN_ID_LIMIT - served.pool.catalog.ids_left()
    assert 8 * 6 <= clock <= handed_out
