"""A volume, a snapshot or a clone that a crash cut short is made by the retry, once, and whole."""

import pytest

from csi.model import Device, FsState
from csi.volumes.node import Node
from csi.volumes.requests import VolumeRequest
from tests.kernel.crash.scene import SIZE, Scene, counter, read, write, writing

AT_REST = ["create.after-intent", "create.after-reserve", "create.after-message", "create.after-outcome"]
IN_USE = [
    "cut.after-intent",
    "cut.after-reserve",
    "cut.frozen",
    "cut.after-message",
    "cut.after-thaw",
    "cut.after-record",
    "cut.after-outcome",
]


@pytest.mark.parametrize("point", AT_REST)
def test_a_blank_volume(scene: Scene, point: str) -> None:
    request = VolumeRequest(scene.name(), SIZE)
    scene.dies_at(point, Node.create_volume, request)
    made = scene.do(Node.create_volume, request)
    sight = scene.settled()
    assert [device.handle for device in sight.devices if device.name == request.name] == [made.handle]
    assert made.fs_state is FsState.UNFORMATTED
    scene.stage(made)


@pytest.mark.parametrize("point", AT_REST)
def test_a_snapshot_and_a_clone_of_a_volume_at_rest(scene: Scene, point: str) -> None:
    source = scene.volume(block=True)
    data = write(scene.stage(source))
    scene.unstage(source)
    name = scene.name()
    scene.dies_at(point, Node.create_snapshot, name, source.handle)
    snapshot = scene.do(Node.create_snapshot, name, source.handle)
    request = VolumeRequest(scene.name(), block=True, source=snapshot.handle)
    scene.dies_at(point, Node.create_volume, request)
    clone = scene.do(Node.create_volume, request)
    scene.settled()
    assert read(scene.stage(clone)) == data


@pytest.mark.parametrize("point", IN_USE)
def test_a_snapshot_of_a_volume_that_is_being_written(scene: Scene, point: str) -> None:
    source = _in_use(scene)
    path = f"{scene.path(f'staged-{source.handle}')}/counter"
    name = scene.name()
    with writing(path):
        scene.dies_at(point, Node.create_snapshot, name, source.handle)
        before = counter(path)
        snapshot = scene.do(Node.create_snapshot, name, source.handle)
        after = counter(path)
    scene.settled()
    with scene.copied(snapshot) as copy:
        assert (0 if point in IN_USE[-2:] else before) <= counter(f"{copy}/counter") <= after


@pytest.mark.parametrize("point", IN_USE)
def test_a_clone_of_a_volume_that_is_being_written(scene: Scene, point: str) -> None:
    source = _in_use(scene)
    path = f"{scene.path(f'staged-{source.handle}')}/counter"
    request = VolumeRequest(scene.name(), source=source.handle)
    with writing(path):
        scene.dies_at(point, Node.create_volume, request)
        clone = scene.do(Node.create_volume, request)
        after = counter(path)
    scene.settled()
    assert 0 < counter(f"{scene.stage(clone)}/counter") <= after


def _in_use(scene: Scene) -> Device:
    source = scene.volume()
    scene.stage(source)
    return source
