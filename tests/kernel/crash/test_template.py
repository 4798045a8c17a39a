"""Templates, cut short anywhere, are whole or not there; a volume that begins as one has its file system."""

import os
from collections.abc import Iterator
from dataclasses import replace

import pytest

from csi.model import Device, FsState, FsType, Kind
from csi.volumes.node import Node
from csi.volumes.requests import Access, VolumeRequest
from tests.kernel.conftest import run
from tests.kernel.crash.scene import SIZE, Scene, give_back, look, only_pool, read, write
from tests.kernel.crash.test_use import SIZES

CUTTING = ["cut.after-intent", "cut.after-reserve", "cut.frozen", "cut.after-message", "cut.after-thaw"]
CUT = ["cut.after-record", "cut.after-outcome"]
CREATING = ["create.after-intent", "create.after-reserve", "create.after-message", "create.after-outcome"]
GIVING_BACK = ["reclaim.after-record", "reclaim.after-discard", "reclaim.after-message", "reclaim.after-forget"]


@pytest.fixture
def templated(scene: Scene) -> Iterator[Scene]:
    """Serve the pool with templates."""
    without = scene.engine
    scene.engine = replace(without, spec=replace(without.spec, templates=True))
    scene.restart()
    yield scene
    scene.engine = without
    scene.restart()


@pytest.mark.parametrize("point", [*CUTTING, *CUT])
def test_a_template_is_whole_or_not_there(templated: Scene, point: str) -> None:
    volume = templated.volume()
    _dies_staging(templated, point, volume)
    templated.do(give_back)
    assert len(_templates(templated)) == (point in CUT)
    data = write(f"{templated.stage(volume)}/data")
    other = templated.volume()
    assert (other.fs_state is FsState.FRESH) == (point in CUT)
    write(f"{templated.stage(other)}/other")
    third = templated.volume()
    assert third.fs_state is FsState.FRESH
    assert os.listdir(templated.stage(third)) == ["lost+found"]
    assert read(f"{templated.stage(volume)}/data") == data
    templated.settled()
    assert len(_templates(templated)) == 1


@pytest.mark.parametrize("point", CREATING)
def test_a_volume_begins_as_a_template(templated: Scene, point: str) -> None:
    templated.stage(templated.volume())
    request = VolumeRequest(templated.name(), SIZE, SIZE)
    templated.dies_at(point, Node.create_volume, request)
    volume = templated.do(Node.create_volume, request)
    assert volume.fs_state is FsState.FRESH
    templated.settled()
    write(f"{templated.stage(volume)}/data")
    templated.unstage(volume)
    run("e2fsck", "-f", "-n", templated.do(_activated, volume))
    templated.do(_deactivated, volume)


@pytest.mark.parametrize("fs_type", FsType)
@pytest.mark.parametrize("point", ["stage.after-activate", "stage.after-formatted", "stage.after-reserve"])
def test_a_volume_from_a_template_is_staged_for_the_first_time(templated: Scene, point: str, fs_type: FsType) -> None:
    first = templated.volume(SIZES[fs_type], fs_type=fs_type)
    mine = write(f"{templated.stage(first)}/data")
    volume = templated.volume(SIZES[fs_type], fs_type=fs_type)
    assert volume.fs_state is FsState.FRESH
    _dies_staging(templated, point, volume)
    path = templated.stage(volume)
    assert set(os.listdir(path)) <= {"lost+found"}
    write(f"{path}/data", b"of the second")
    templated.settled()
    assert read(f"{templated.stage(first)}/data") == mine
    assert templated.do(Node.volume, volume.handle).fs_state is FsState.FORMATTED


@pytest.mark.parametrize("point", GIVING_BACK)
def test_a_template_that_is_dropped_goes_and_leaves_what_began_as_it(templated: Scene, point: str) -> None:
    templated.stage(templated.volume())
    volume = templated.volume()
    templated.dies_at(point, _switched_off)
    templated.do(_switched_off)
    templated.settled()
    assert not _templates(templated)
    write(f"{templated.stage(volume)}/data")
    templated.unstage(volume)
    run("e2fsck", "-f", "-n", templated.do(_activated, volume))
    templated.do(_deactivated, volume)


def _templates(scene: Scene) -> list[Device]:
    return [device for device in scene.do(look).devices if device.kind is Kind.TEMPLATE]


def _dies_staging(scene: Scene, point: str, volume: Device) -> None:
    path = scene.path(f"staged-{volume.handle}")
    os.makedirs(path, exist_ok=True)
    scene.dies_at(point, Node.stage, volume.handle, path, Access())


def _switched_off(node: Node) -> None:
    pool = only_pool(node)
    pool.follow(replace(pool.spec, templates=False))
    give_back(node)


def _activated(node: Node, volume: Device) -> str:
    pool = only_pool(node)
    return pool.device(volume.handle.thin).activate(pool.number, volume.size)


def _deactivated(node: Node, volume: Device) -> None:
    only_pool(node).device(volume.handle.thin).deactivate()
