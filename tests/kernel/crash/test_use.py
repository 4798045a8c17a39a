"""Stage, publish and their undoing, cut short anywhere, converge with the retry; no volume is stuck, none has two."""

import os

import pytest

from csi.errors import NotFoundError
from csi.model import Device, FsState, FsType
from csi.units import MIB, Bytes
from csi.volumes.node import Node
from csi.volumes.requests import Access, VolumeRequest
from tests.kernel.crash.scene import SIZE, Scene, read, write

SIZES = {FsType.EXT4: SIZE, FsType.XFS: Bytes(300 * MIB), FsType.BTRFS: Bytes(128 * MIB)}
ACTIVATING = ["activate.after-create", "activate.after-load", "stage.after-activate"]
FORMATTING = ["stage.after-formatting", "stage.after-mkfs", "stage.after-formatted", "stage.after-reserve"]
MOUNTED = "stage.after-mount"
UNPUBLISHING = ["unpublish.after-unmount", "unpublish.after-target"]
UNSTAGING = ["unstage.after-unmount", "unstage.after-deactivate"]
INLINE = "csi-" + "5" * 64


@pytest.mark.parametrize(
    ("fs_type", "point"),
    [
        *((FsType.EXT4, point) for point in (*ACTIVATING, *FORMATTING, MOUNTED)),
        *((fs_type, point) for fs_type in (FsType.XFS, FsType.BTRFS) for point in FORMATTING),
    ],
)
def test_a_volume_is_staged_for_the_first_time(scene: Scene, fs_type: FsType, point: str) -> None:
    volume = scene.volume(SIZES[fs_type], fs_type=fs_type)
    _dies_staging(scene, point, volume)
    path = scene.stage(volume)
    scene.settled()
    data = write(f"{path}/data")
    scene.unstage(volume)
    assert scene.do(Node.volume, volume.handle).fs_state is FsState.FORMATTED
    assert read(f"{scene.stage(volume)}/data") == data


@pytest.mark.parametrize("point", [*ACTIVATING, *FORMATTING])
def test_a_volume_whose_first_stage_is_never_tried_again_can_be_deleted(scene: Scene, point: str) -> None:
    volume = scene.volume()
    _dies_staging(scene, point, volume)
    scene.do(Node.delete_volume, volume.handle)
    scene.settled()


@pytest.mark.parametrize("fs_type", FsType)
def test_a_larger_copy_grows_after_all(scene: Scene, fs_type: FsType) -> None:
    """The crash comes between the mount and the growth of the file system."""
    source = _formatted(scene, fs_type)
    greater = Bytes(2 * SIZES[fs_type])
    copy = scene.copy(source, greater)
    _dies_staging(scene, MOUNTED, copy)
    path = scene.stage(copy)
    assert scene.do(Node.usage, copy.handle, path).total > SIZES[fs_type]
    assert read(f"{path}/data") == read(f"{scene.stage(source)}/data")
    scene.settled()


@pytest.mark.parametrize("point", ["stage.after-activate", "stage.after-renew", MOUNTED])
def test_a_copy_of_a_btrfs_gets_its_own_identity_once(scene: Scene, point: str) -> None:
    source = _formatted(scene, FsType.BTRFS)
    beside = scene.stage(source)
    copy = scene.copy(source)
    _dies_staging(scene, point, copy)
    path = scene.stage(copy)
    scene.settled()
    assert os.stat(path).st_dev != os.stat(beside).st_dev
    write(f"{path}/data", b"of the copy")
    assert read(f"{beside}/data") != read(f"{path}/data")


@pytest.mark.parametrize("point", ["publish.after-target", "publish.after-bind"])
@pytest.mark.parametrize("readonly", [False, True])
def test_a_file_system_is_published(scene: Scene, point: str, readonly: bool) -> None:
    volume = scene.volume()
    staging, target = scene.stage(volume), scene.path()
    scene.dies_at(point, Node.publish, volume.handle, staging, target, Access(), readonly=readonly)
    scene.do(Node.publish, volume.handle, staging, target, Access(), readonly=readonly)
    scene.settled({target: volume})
    assert bool(os.statvfs(target).f_flag & os.ST_RDONLY) is readonly
    scene.do(Node.unpublish, str(volume.handle), target)


@pytest.mark.parametrize("point", ["stage.after-activate", "publish.after-target", "publish.after-bind"])
def test_a_raw_block_volume_is_published(scene: Scene, point: str) -> None:
    volume = scene.volume(block=True)
    staging, target = scene.path(), scene.path(f"target-{volume.handle}")
    access = Access(block=True)
    if point.startswith("stage"):
        scene.dies_at(point, Node.stage, volume.handle, staging, access)
    else:
        scene.do(Node.stage, volume.handle, staging, access)
        scene.dies_at(point, Node.publish, volume.handle, staging, target, access, readonly=False)
    assert scene.stage(volume) == target
    scene.settled()
    write(target)


@pytest.mark.parametrize("point", UNPUBLISHING)
@pytest.mark.parametrize("block", [False, True])
def test_a_volume_is_taken_away_from_its_target(scene: Scene, point: str, block: bool) -> None:
    volume = scene.volume(block=block)
    staging, target = scene.stage(volume), scene.path()
    scene.do(Node.publish, volume.handle, staging, target, Access(block=block), readonly=False)
    scene.dies_at(point, Node.unpublish, str(volume.handle), target)
    scene.do(Node.unpublish, str(volume.handle), target)
    scene.settled()
    assert not os.path.lexists(target)


@pytest.mark.parametrize("point", UNSTAGING)
def test_a_volume_is_unstaged(scene: Scene, point: str) -> None:
    volume = scene.volume()
    path = scene.stage(volume)
    scene.dies_at(point, Node.unstage, volume.handle, path)
    scene.unstage(volume)
    scene.settled()


@pytest.mark.parametrize(
    "point", ["create.after-intent", "ephemeral.after-create", *FORMATTING, MOUNTED, "ephemeral.after-mount"]
)
def test_an_ephemeral_volume_is_published(scene: Scene, point: str) -> None:
    target = scene.path()
    scene.dies_at(point, _publish_inline, target)
    scene.do(_publish_inline, target)
    volume = scene.do(Node.inline, INLINE)
    scene.settled({target: volume})
    write(f"{target}/data")
    scene.do(Node.unpublish, INLINE, target)
    scene.settled()


@pytest.mark.parametrize(
    "point", ["create.after-message", "ephemeral.after-create", "stage.after-mkfs", "stage.after-formatted", MOUNTED]
)
def test_an_ephemeral_volume_that_was_never_handed_out_goes(scene: Scene, point: str) -> None:
    """Its pod is gone: the kubelet cleans up and never publishes again."""
    target = scene.path()
    scene.dies_at(point, _publish_inline, target)
    scene.do(Node.unpublish, INLINE, target)
    sight = scene.settled()
    assert [device.handle for device in sight.devices] == [device.handle for device in scene.fixed]
    assert not os.path.lexists(target)


@pytest.mark.parametrize(
    "point",
    [
        *UNPUBLISHING,
        "ephemeral.after-unmount",
        "ephemeral.after-deactivate",
        "delete.after-intent",
    ],
)
def test_an_ephemeral_volume_goes_with_its_target(scene: Scene, point: str) -> None:
    target = scene.path()
    scene.do(_publish_inline, target)
    volume = scene.do(Node.inline, INLINE)
    scene.dies_at(point, Node.unpublish, INLINE, target)
    scene.do(Node.unpublish, INLINE, target)
    scene.settled()
    assert not os.path.lexists(target)
    with pytest.raises(NotFoundError):
        scene.do(Node.volume, volume.handle)


def _publish_inline(node: Node, target: str) -> None:
    request = VolumeRequest(INLINE, SIZE, ephemeral=True)
    node.publish_ephemeral(INLINE, target, request, Access(), readonly=False)


def _dies_staging(scene: Scene, point: str, volume: Device) -> None:
    path = scene.path(f"staged-{volume.handle}")
    os.makedirs(path, exist_ok=True)
    scene.dies_at(point, Node.stage, volume.handle, path, Access())


def _formatted(scene: Scene, fs_type: FsType) -> Device:
    """Return a volume with a file system and a file in it, at rest."""
    volume = scene.volume(SIZES[fs_type], fs_type=fs_type)
    write(f"{scene.stage(volume)}/data")
    scene.unstage(volume)
    return volume
