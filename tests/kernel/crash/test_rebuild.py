"""A rebuild of the catalog brings back all that the pool still has, and names what it has not."""

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from csi.errors import StateError, UnavailableError
from csi.model import Device, FsType, Handle
from csi.units import MIB, SECTOR
from csi.volumes.node import Node
from csi.volumes.requests import Access, VolumeRequest
from tests.kernel.conftest import run
from tests.kernel.crash.catalogs import (
    END,
    GREATER,
    catalog_file,
    copy_catalog,
    created,
    created_and_deleted,
    formatted,
    furnished,
    grown,
    knows_its_own,
    opened,
    put_away,
    rebuilt,
    serve_with,
    snapshotted,
    spare,
    stands_still,
)
from tests.kernel.crash.scene import DATA, SIZE, Scene, give_back, look, only_pool, read, write

REBUILDING: Final = [
    "rebuild.after-catalog",
    "rebuild.after-rows",
    "rebuild.after-begin",
    "rebuild.after-transaction-id",
]


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a disk with a pool on it that was put away in good order."""
    base = tmp_path_factory.mktemp("prepared")
    with opened(base) as scene:
        put_away(furnished(scene))
    return base


@pytest.fixture
def scene(prepared: Path, tmp_path: Path) -> Iterator[Scene]:
    """Serve a copy of the prepared disk."""
    for name in ("disk", "messages"):
        run("cp", "--sparse=always", str(prepared / name), str(tmp_path / name))
    with opened(tmp_path) as scene:
        scene.fixed = list(scene.do(look).devices)
        yield scene
        scene.no_id_used_twice()
    (tmp_path / "disk").unlink()


def test_a_rebuild_brings_back_what_happened_in_ten_minutes(scene: Scene) -> None:
    keeper, _, idle, blank = scene.fixed
    doomed = spare(scene)
    scene.do(copy_catalog, scene.engine.base / "ago")
    scene.do(Node.delete_volume, doomed.handle)
    scene.do(give_back)
    formatted(scene)
    grown(scene)
    known = scene.do(look).present
    created(scene)
    snapshotted(scene)
    strangers = scene.do(look).present - known
    scene.started.kill()
    serve_with(scene, scene.engine.base / "ago")
    stands_still(scene)
    assert rebuilt(scene) == ({doomed.handle}, {Handle(keeper.handle.pool, thin) for thin in strangers})
    knows_its_own(scene)
    assert read(f"{scene.stage(blank)}/data") == hashlib.sha256(DATA).hexdigest()
    with open(scene.stage(idle), "rb") as device:
        device.seek(GREATER - SECTOR)
        assert device.read(len(END)) == END


def test_what_may_have_been_formatted_since_is_never_formatted(scene: Scene) -> None:
    scene.do(copy_catalog, scene.engine.base / "ago")
    created_and_deleted(scene)
    scene.started.kill()
    serve_with(scene, scene.engine.base / "ago")
    assert rebuilt(scene) == (set(), set())
    with pytest.raises(StateError, match="shows nothing; nothing was written"):
        scene.stage(scene.fixed[3])


def test_a_lost_catalog_is_rebuilt_with_everything_in_quarantine(scene: Scene) -> None:
    _lose_the_catalog(scene)
    stands_still(scene)
    assert rebuilt(scene) == (set(), {device.handle for device in scene.fixed})
    idle = scene.fixed[2]
    with pytest.raises(StateError, match="quarantine"):
        scene.do(Node.delete_volume, idle.handle)
    with open(scene.do(_activated, idle), "rb") as device:
        assert device.read(len(DATA)) == DATA


def test_what_is_in_use_is_used_on_without_a_catalog_and_after_a_rebuild(scene: Scene) -> None:
    uses = {FsType.EXT4: SIZE, FsType.XFS: 320 * MIB, FsType.BTRFS: 128 * MIB, None: SIZE}
    busy = [scene.volume(size, fs_type=use, block=use is None) for use, size in uses.items()]
    for volume in busy:
        scene.stage(volume)
    _lose_the_catalog(scene)
    for volume in busy:
        _is_used_on(scene, volume)
    _, kept, idle, blank = scene.fixed
    before = scene.do(look)
    for at_rest in (kept, idle, blank):
        # Nothing says what it is: a snapshot, or what was deleted, is not to be mounted.
        for access in (Access(), Access(read_only=True), Access(block=True)):
            with pytest.raises(UnavailableError, match="rebuild"):
                scene.do(Node.stage, at_rest.handle, scene.path(), access)
    assert scene.do(look) == before
    rebuilt(scene)
    for volume in busy:
        _is_used_on(scene, volume)
        scene.unstage(volume)
        with pytest.raises(StateError, match="quarantine"):
            scene.stage(volume)


def test_an_inline_volume_in_quarantine_is_unpublished_and_kept(scene: Scene) -> None:
    name, target = f"csi-{'0' * 64}", scene.path()
    scene.do(Node.publish_ephemeral, name, target, VolumeRequest(name, SIZE), Access(), readonly=False)
    write(f"{target}/data")
    _lose_the_catalog(scene)
    with pytest.raises(UnavailableError, match="rebuild"):
        scene.do(Node.unpublish, name, target)
    rebuilt(scene)
    before = scene.do(look)
    scene.do(Node.unpublish, name, target)
    assert not os.path.exists(target)
    after = scene.do(look)
    assert (after.devices, after.active) == (before.devices, frozenset())
    scene.do(Node.unpublish, name, target)


def _lose_the_catalog(scene: Scene) -> None:
    file = scene.do(catalog_file)
    scene.started.stop()
    file.unlink()
    scene.started = scene.engine.start()


def _is_used_on(scene: Scene, volume: Device) -> None:
    """See that it is staged again, published once more, written and measured."""
    staging, target = scene.path(f"staged-{volume.handle}"), scene.path()
    access = Access(fs_type=volume.fs_type, block=volume.fs_type is None)
    scene.do(Node.stage, volume.handle, staging, access)
    scene.do(Node.publish, volume.handle, staging, target, access, readonly=False)
    data = write(f"{target}/data" if volume.fs_type else target)
    assert volume.size // 2 < scene.do(Node.usage, volume.handle, target).total <= volume.size
    scene.do(Node.unpublish, str(volume.handle), target)
    kept = f"{staging}/data" if volume.fs_type else scene.path(f"target-{volume.handle}")
    assert read(kept) == data


def test_a_rebuild_that_is_cut_short_is_begun_again_or_was_done(scene: Scene) -> None:
    for point in REBUILDING:
        before = scene.do(look)
        _lose_the_catalog(scene)
        scene.dies_at(point, Node.check, rebuild=True)
        _, strangers = rebuilt(scene)
        assert {handle.thin for handle in strangers} == before.present


def test_a_pool_whose_metadata_was_set_back(scene: Scene) -> None:
    idle = scene.fixed[2]
    disk, start, length = _metadata_place(idle.handle.pool)
    put_away(scene)
    with open(disk, "r+b") as device:
        device.seek(start)
        ago = device.read(length)
    scene.started = scene.engine.start()
    gone = scene.volume()
    write(f"{scene.stage(gone)}/data")
    scene.unstage(gone)
    scene.do(Node.delete_volume, idle.handle)
    scene.do(give_back)
    put_away(scene)
    with open(disk, "r+b") as device:
        device.seek(start)
        device.write(ago)
        os.fsync(device.fileno())
    scene.started = scene.engine.start()
    assert "set back" in scene.do(look).guard
    stands_still(scene)
    knows_its_own(scene)
    assert rebuilt(scene) == ({gone.handle}, {idle.handle})
    with pytest.raises(StateError, match="does not have it"):
        scene.stage(gone)
    knows_its_own(scene)


def _metadata_place(pool_id: str) -> tuple[str, int, int]:
    """Return the disk on which a pool's metadata lies, where it begins and how long it is, in bytes."""
    (table,) = (line for line in run("dmsetup", "table").splitlines() if f"{pool_id}-pool_tmeta:" in line)
    _, _, length, target, number, offset = table.split()
    assert target == "linear"
    node = f"/dev/{os.path.basename(os.readlink(f'/sys/dev/block/{number}'))}"
    return node, int(offset) * SECTOR, int(length) * SECTOR


def _activated(node: Node, volume: Device) -> str:
    pool = only_pool(node)
    return pool.device(volume.handle.thin).activate(pool.number, volume.size)
