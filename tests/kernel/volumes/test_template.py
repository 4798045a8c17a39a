"""Templates: a new volume begins as the fresh file system of one like it, and nobody can tell the two apart."""

import os
from dataclasses import fields
from pathlib import Path

import pytest

from csi.catalog.row import Draft
from csi.errors import NoSpaceError, NotFoundError, UnavailableError
from csi.fs import mkfs
from csi.model import Device, FsState, FsType, Kind, State
from csi.units import GIB, MIB, Bytes
from csi.volumes import sentinel, template
from csi.volumes.pool import Guard
from csi.volumes.requests import Access, VolumeRequest
from tests.kernel.conftest import run, wait_until
from tests.kernel.volumes.conftest import MakeServed
from tests.kernel.volumes.served import SIZE, Served
from tests.kernel.volumes.test_pools import remove, signatures
from tests.kernel.volumes.writing import Filler

_SIZES = {FsType.EXT4: SIZE, FsType.XFS: 300 * MIB, FsType.BTRFS: 128 * MIB}
_SOUND = {
    FsType.EXT4: ("e2fsck", "-f", "-n"),
    FsType.XFS: ("xfs_repair", "-n"),
    FsType.BTRFS: ("btrfs", "check", "--readonly"),
}


@pytest.fixture(scope="module")
def module_served(make_module_served: MakeServed) -> Served:
    return make_module_served(4 * GIB // MIB, overprovision_ratio=20.0, templates=True)


@pytest.fixture(autouse=True)
def _as_by_default(served: Served) -> None:
    served.let(templates=True, min_free_space_percent=10)


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return a list that grows with every mkfs."""
    devices: list[str] = []
    make = mkfs.make

    def counted(device: str, fs_type: FsType, *, profile: str = mkfs.AUTO) -> None:
        devices.append(device)
        make(device, fs_type, profile=profile)

    monkeypatch.setattr(mkfs, "make", counted)
    return devices


def _templates(served: Served) -> list[Device]:
    return served.pool.catalog.devices(kind=Kind.TEMPLATE, state=State.READY)


def _formatted(served: Served, name: str, size: int = SIZE, fs_type: FsType = FsType.EXT4) -> Device:
    """Make a volume, use it, and leave it at rest."""
    volume = served.create(name, size, fs_type=fs_type)
    Path(served.staged(volume), "secret").write_text(name)
    served.unstage(volume)
    return volume


@pytest.mark.parametrize("fs_type", FsType)
def test_a_second_volume_of_a_shape_has_a_fresh_file_system_without_mkfs(
    served: Served, made: list[str], fs_type: FsType
) -> None:
    first = served.create("first", _SIZES[fs_type], fs_type=fs_type)
    Path(served.staged(first), "secret").write_text("of the first")
    second = served.create("second", _SIZES[fs_type], fs_type=fs_type)
    third = served.create("third", _SIZES[fs_type], fs_type=fs_type)
    assert len(made) == 1
    paths = [served.staged(volume) for volume in (second, third)]
    assert len(made) == 1
    for path in paths:
        assert set(os.listdir(path)) <= {"lost+found"}
        Path(path, "data").write_text(path)
    assert len({os.stat(path).st_dev for path in paths}) == 2
    for volume, path in zip((second, third), paths, strict=True):
        assert Path(path, "data").read_text() == path
        assert served.node.volume(volume.handle).fs_state is FsState.FORMATTED
        served.unstage(volume)
        with served.raw(volume) as device:
            run(*_SOUND[fs_type], device)
        assert Path(served.staged(volume), "data").read_text() == path
    assert Path(served.path(f"staged-{first.handle}"), "secret").read_text() == "of the first"


def test_a_volume_of_another_shape_has_its_own(served: Served, made: list[str]) -> None:
    _formatted(served, "v")
    _formatted(served, "larger", SIZE + MIB)
    _formatted(served, "xfs", 300 * MIB, FsType.XFS)
    _formatted(served, "ext4 of that size", 300 * MIB)
    old = served.node.create_volume(VolumeRequest("old", Bytes(300 * MIB), fs_type=FsType.XFS, mkfs_profile="5.10"))
    served.staged(old)
    assert len(made) == 5
    assert len(_templates(served)) == 5
    assert served.create("block", block=True).origin is None


def test_a_volume_from_a_template_can_be_grown_copied_and_deleted_before_its_first_use(served: Served) -> None:
    _formatted(served, "v")
    volume, doomed = served.create("w"), served.create("x")
    copy = served.copy("copy", volume.handle)
    snapshot = served.node.create_snapshot("s", volume.handle)
    served.node.expand_volume(volume.handle, Bytes(2 * SIZE), Bytes(0))
    assert os.statvfs(served.staged(volume)).f_blocks * 4096 > SIZE
    restored = served.copy("restored", snapshot.handle, 3 * SIZE)
    assert os.statvfs(served.staged(restored)).f_blocks * 4096 > 2 * SIZE
    Path(served.staged(copy), "data").write_text("of the copy")
    served.node.delete_volume(doomed.handle)
    served.reclaimed()
    assert not served.node.check().findings


def test_nobody_sees_a_template(served: Served) -> None:
    volume = _formatted(served, "v")
    before = served.node.capacity(None)
    (kept,) = _templates(served)
    assert [device.handle for device in served.node.volumes()] == [volume.handle]
    assert served.node.snapshots() == []
    counts = served.pool.catalog.counts()
    assert (counts.volumes, counts.snapshots, counts.virtual, counts.templates) == (1, 0, SIZE, 1)
    assert before.available == served.node.capacity(None).available
    with pytest.raises(NotFoundError):
        served.node.stage(kept.handle, served.path("template"), Access())
    with pytest.raises(NotFoundError):
        served.node.create_snapshot("s", kept.handle)
    with pytest.raises(NotFoundError):
        served.copy("copy", kept.handle)
    served.node.delete_volume(kept.handle)
    served.node.delete_snapshot(kept.handle)
    assert _templates(served) == [kept]
    (report,) = served.node.report().pools
    assert report.templates == 1


def test_the_least_recently_used_goes(served: Served, monkeypatch: pytest.MonkeyPatch, made: list[str]) -> None:
    monkeypatch.setattr(template, "MOST", 2)
    sizes = [SIZE, SIZE + MIB, SIZE + 2 * MIB]
    for size in sizes[:2]:
        _formatted(served, str(size), size)
    assert served.create("again", sizes[0]).fs_state is FsState.FRESH
    _formatted(served, str(sizes[2]), sizes[2])
    served.reclaimed()
    assert [device.size for device in _templates(served)] == [sizes[0], sizes[2]]
    assert len(made) == 3


def test_what_begins_as_a_template_outlives_it(served: Served) -> None:
    first = _formatted(served, "v")
    volume = served.create("w")
    served.let(templates=False)
    served.node.delete_volume(first.handle)
    served.reclaimed()
    wait_until(lambda: not served.pool.catalog.counts().templates)
    assert served.create("x").fs_state is FsState.UNFORMATTED
    Path(served.staged(volume), "data").write_text("kept")
    served.unstage(volume)
    with served.raw(volume) as device:
        run(*_SOUND[FsType.EXT4], device)


def test_switched_off_none_is_made(served: Served, made: list[str]) -> None:
    served.let(templates=False)
    _formatted(served, "v")
    _formatted(served, "w")
    assert len(made) == 2
    assert served.pool.catalog.counts().templates == 0


def test_templates_outlive_a_reboot_and_not_a_rebuild(served: Served, made: list[str]) -> None:
    _formatted(served, "v")
    volume = served.create("w")
    served.reboot()
    again = served.create("x")
    assert (again.fs_state, len(made)) == (FsState.FRESH, 1)
    served.pool.guard = Guard("the test says so", "rebuild")
    served.node.check(rebuild=True)
    served.reclaimed()
    assert served.pool.catalog.counts().templates == 0
    assert served.create("y").fs_state is FsState.UNFORMATTED
    Path(served.staged(volume), "data").write_text("kept")
    assert not served.node.check().findings


def test_a_lost_template_is_no_loss_and_a_second_of_its_shape_goes(served: Served, made: list[str]) -> None:
    _formatted(served, "v")
    (kept,) = _templates(served)
    second, _ = served.pool.catalog.add([_draft_of(kept)], covered=served.pool.kernel_ceiling)
    served.pool.thin.create_snap(second[0].handle.thin, kept.handle.thin)
    served.pool.catalog.ready(second)
    served.reboot()
    served.reclaimed()
    assert len(_templates(served)) == 1
    served.pool.thin.delete(_templates(served)[0].handle.thin)
    served.reboot()
    assert not served.pool.guard.why
    assert not _templates(served)
    _formatted(served, "w")
    assert len(made) == 2
    assert len(_templates(served)) == 1


def _draft_of(device: Device) -> Draft:
    return Draft(
        **{each.name: getattr(device, each.name) for each in fields(Draft)} | {"state": State.CREATING},
    )


def test_while_catalog_and_pool_disagree_a_fresh_volume_is_not_handed_out(served: Served) -> None:
    _formatted(served, "v")
    volume = served.create("w")
    before = served.pool.catalog.ceiling(), served.pool.thin.status().transaction_id
    served.pool.guard = Guard("the test says so", "rebuild")
    with pytest.raises(UnavailableError, match="the test says so"):
        served.staged(volume)
    assert (served.pool.catalog.ceiling(), served.pool.thin.status().transaction_id) == before
    assert served.node.volume(volume.handle).fs_state is FsState.FRESH
    served.node.check(rebuild=True)
    assert served.node.volume(volume.handle).fs_state is FsState.FORMATTED
    Path(served.staged(volume), "data").write_text("kept")


def test_on_a_full_pool_a_volume_that_shares_blocks_waits_and_goes_on(make_served: MakeServed) -> None:
    """Also its journal and its own blocks may need new ones, as those of a volume with a snapshot do."""
    served = make_served(268, min_free_space_percent=0, overprovision_ratio=20.0, templates=True)
    wait_until(lambda: sentinel.ballast(served.pool), 20)
    victim = served.create("victim", 40 * MIB, block=True)
    Filler(served.staged(victim), 40 * MIB).finish()
    served.unstage(victim)
    places = [served.staged(served.create(name, 200 * MIB)) for name in ("first", "second")]
    unused = served.create("unused", 200 * MIB)
    assert unused.fs_state is FsState.FRESH
    fillers = [Filler(f"{place}/file", 60 * MIB) for place in places]
    served.filled()
    with pytest.raises(NoSpaceError, match="is full"):
        served.staged(unused)
    assert not served.active(unused.handle)
    served.node.delete_volume(victim.handle)
    for filler in fillers:
        filler.finish()
    assert Path(served.staged(unused)).is_dir()


def test_with_large_blocks_none_is_made(make_served: MakeServed) -> None:
    served = make_served(GIB // MIB, block_size=Bytes(2 * MIB), templates=True)
    _formatted(served, "v")
    assert not _templates(served)


def test_a_volume_that_no_template_can_be_kept_of_is_as_good(served: Served) -> None:
    volume = served.create("v")
    served.let(min_free_space_percent=100)
    Path(served.staged(volume), "data").write_text("kept")
    assert not _templates(served)
    served.let(min_free_space_percent=10)
    served.staged(served.create("w"))
    assert len(_templates(served)) == 1


def test_a_pool_with_nothing_but_templates_is_empty_and_removed(make_served: MakeServed) -> None:
    served = make_served(GIB // MIB, templates=True)
    volume = _formatted(served, "v")
    served.node.delete_volume(volume.handle)
    served.reclaimed()
    assert _templates(served)
    assert served.pool.empty()
    remove(served)
    assert not served.node.pools
    assert not signatures(served.spec.devices[0])
