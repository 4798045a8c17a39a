"""Growth and deletion that a crash cut short come to their end, with the retry or without it."""

import os

import pytest

from csi.errors import NotFoundError
from csi.model import Device, FsType, State
from csi.units import MIB, Bytes
from csi.volumes.node import Node
from tests.kernel.crash.scene import SIZE, Scene, give_back, only_pool, read, write

GREATER = Bytes(2 * SIZE)
GROWING = ["grow.after-intent", "grow.after-reserve", "grow.after-load", "grow.after-table"]
RECLAIMING = [
    "reclaim.after-record",
    "reclaim.after-reserve",
    "activate.after-create",
    "activate.after-load",
    "reclaim.after-activate",
    "discard.half",
    "reclaim.after-discard",
    "reclaim.after-deactivate",
    "reclaim.after-message",
    "reclaim.after-forget",
]


@pytest.mark.parametrize("point", GROWING)
def test_a_volume_in_use_grows(scene: Scene, point: str) -> None:
    volume = scene.volume()
    path = scene.stage(volume)
    data = write(f"{path}/data")
    scene.dies_at(point, Node.expand_volume, volume.handle, GREATER, Bytes(0))
    assert scene.do(Node.expand_volume, volume.handle, GREATER, Bytes(0)).size == GREATER
    assert scene.do(Node.expand_fs, volume.handle, path) == GREATER
    assert scene.do(Node.usage, volume.handle, path).total > SIZE
    scene.settled()
    assert read(f"{path}/data") == data


@pytest.mark.parametrize("point", GROWING[:2])
def test_a_volume_at_rest_grows(scene: Scene, point: str) -> None:
    volume = scene.volume(block=True)
    scene.dies_at(point, Node.expand_volume, volume.handle, GREATER, Bytes(0))
    assert scene.do(Node.expand_volume, volume.handle, GREATER, Bytes(0)).size == GREATER
    scene.settled()
    path = scene.stage(volume)
    with open(path, "rb") as node:
        assert node.seek(0, os.SEEK_END) == GREATER


def test_growth_that_is_not_asked_for_again_is_finished_by_the_next_stage(scene: Scene) -> None:
    volume = scene.volume(fs_type=FsType.EXT4)
    scene.stage(volume)
    scene.unstage(volume)
    scene.dies_at("grow.after-intent", Node.expand_volume, volume.handle, GREATER, Bytes(0))
    path = scene.stage(volume)
    assert scene.do(Node.usage, volume.handle, path).total > SIZE
    scene.settled()


@pytest.mark.parametrize("kind", ["volume", "snapshot"])
def test_a_deletion_that_was_recorded_is_carried_out(scene: Scene, kind: str) -> None:
    volume = doomed = _written(scene)
    delete = Node.delete_volume
    if kind == "snapshot":
        doomed, delete = scene.do(Node.create_snapshot, scene.name(), volume.handle), Node.delete_snapshot
    scene.dies_at("delete.after-intent", delete, doomed.handle)
    scene.do(delete, doomed.handle)
    assert doomed.handle not in {device.handle for device in scene.settled().devices}


@pytest.mark.parametrize("point", RECLAIMING)
def test_giving_back_space_goes_on_where_it_stopped(scene: Scene, point: str) -> None:
    doomed = _written(scene)
    scene.do(Node.delete_volume, doomed.handle)
    scene.dies_at(point, give_back)
    with pytest.raises(NotFoundError):
        scene.do(Node.volume, doomed.handle)
    assert doomed.handle not in {device.handle for device in scene.settled().devices}


def test_a_deletion_answered_before_a_crash_needs_no_retry(scene: Scene) -> None:
    doomed = _written(scene)
    scene.do(Node.delete_volume, doomed.handle)
    scene.restart()
    assert [device.state for device in scene.do(_rows) if device.handle == doomed.handle] == [State.DELETING]
    scene.settled()


def _rows(node: Node) -> list[Device]:
    return only_pool(node).catalog.devices()


def _written(scene: Scene) -> Device:
    """Return a volume at rest with something in it, some of it beyond the first slice that is discarded."""
    volume = scene.volume(int(130 * MIB), block=True)
    path = scene.stage(volume)
    write(path)
    with open(path, "r+b") as node:
        node.seek(128 * MIB)
        node.write(b"far behind")
    scene.unstage(volume)
    return volume
