"""A first mkfs that was cut short leaves nothing behind, and a volume that is never stuck."""

import os
import signal
import sys
from pathlib import Path
from typing import Final
from unittest.mock import patch

import pytest

from csi.errors import BusyError, DriverError
from csi.fs import mkfs
from csi.model import Device, FsState, FsType
from csi.units import MIB, Bytes
from csi.volumes.node import Node
from csi.volumes.requests import Access
from tests.kernel.conftest import run, wait_until
from tests.kernel.crash.scene import SIZE, Scene, only_pool, read, write
from tests.kernel.crash.test_use import SIZES

GARBAGE: Final = b"left by a mkfs that was cut short. "
HALF_A_MKFS: Final = """
import os, signal, sys
device = os.open(sys.argv[1], os.O_RDWR)
os.pwrite(device, os.urandom(1 << 20), 0)
os.kill(os.getpid(), signal.SIGSTOP)
os.pwrite(device, os.urandom(1 << 20), 4 << 20)
"""
SOUND: Final = {
    FsType.EXT4: ("e2fsck", "-f", "-n"),
    FsType.XFS: ("xfs_repair", "-n"),
    FsType.BTRFS: ("btrfs", "check", "--readonly"),
}


@pytest.mark.parametrize("fs_type", FsType)
def test_a_mkfs_that_outlives_the_node_is_waited_for(scene: Scene, fs_type: FsType) -> None:
    """It is in the middle of its work when the next node wants to format, and goes on afterwards."""
    volume = scene.volume(SIZES[fs_type], fs_type=fs_type)
    path = scene.path(f"staged-{volume.handle}")
    os.makedirs(path)
    scene.started.begin("", _stage_with_a_mkfs_that_stops, volume, path)
    half_done = _stopped_mkfs(scene.started.pid)
    try:
        scene.restart()
        with pytest.raises(BusyError, match="open"):
            scene.do(Node.stage, volume.handle, path, Access())
        # Nor does anything else take the device away from under it.
        with pytest.raises(DriverError):
            scene.do(Node.delete_volume, volume.handle)
    finally:
        os.kill(half_done, signal.SIGCONT)
    wait_until(lambda: not Path(f"/proc/{half_done}").exists(), 60)
    _sound(scene, volume)


@pytest.mark.parametrize("fs_type", FsType)
def test_whatever_was_written_is_gone(scene: Scene, fs_type: FsType) -> None:
    """Also from the last block, which is not whole and cannot be discarded."""
    volume = scene.volume(SIZES[fs_type] + 4096, fs_type=fs_type)
    path = _cut_short(scene, volume)
    _sound(scene, volume)
    with open(path, "rb") as device:
        assert not any(GARBAGE in device.read(MIB) for _ in range(0, volume.size, MIB))


def test_a_volume_whose_mkfs_was_cut_short_can_be_grown_and_copied(scene: Scene) -> None:
    volume = scene.volume()
    _cut_short(scene, volume)
    scene.do(Node.expand_volume, volume.handle, Bytes(2 * SIZE), Bytes(0))
    snapshot = scene.do(Node.create_snapshot, scene.name(), volume.handle)
    copies = [scene.copy(snapshot), scene.copy(volume)]
    for each in (volume, *copies):
        _sound(scene, each)
    assert scene.do(Node.volume, volume.handle).fs_state is FsState.FORMATTED


def _cut_short(scene: Scene, volume: Device) -> str:
    """Leave the volume active and with garbage all over it, with a mkfs begun; return the path of its device."""
    path = scene.path(f"staged-{volume.handle}")
    os.makedirs(path)
    scene.dies_at("stage.after-formatting", Node.stage, volume.handle, path, Access())
    node = scene.do(_device_path, volume)
    # A signature that a careful mkfs would refuse to overwrite, and something everywhere.
    run("mkswap", node)
    with open(node, "r+b") as device:
        for place in (*range(4096, volume.size - 4096, MIB), volume.size - 4096):
            device.seek(place)
            device.write((GARBAGE * 4096)[:4096])
    return node


def _sound(scene: Scene, volume: Device) -> None:
    """See that the volume can be staged, holds what is written to it, and that its file system is in order."""
    data = write(f"{scene.stage(volume)}/data")
    scene.settled()
    assert volume.fs_type is not None
    scene.unstage(volume)
    node = scene.do(_activated, volume)
    try:
        run(*SOUND[volume.fs_type], node)
    finally:
        scene.do(_deactivated, volume)
    assert read(f"{scene.stage(volume)}/data") == data


def _stopped_mkfs(node: int) -> int:
    """Wait until the node's mkfs has stopped itself; return its process id."""
    found: list[int] = []

    def stopped() -> bool:
        children = Path(f"/proc/{node}/task/{node}/children").read_text().split()
        found[:] = [int(child) for child in children if "State:\tT" in _status(child)]
        return bool(found)

    wait_until(stopped, 60)
    return found[0]


def _status(process: str) -> str:
    """Return what the kernel says of a process; nothing if it has gone, as the node's look at the device soon has."""
    try:
        return Path(f"/proc/{process}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return ""


def _stage_with_a_mkfs_that_stops(node: Node, volume: Device, path: str) -> None:
    def command(_fs_type: FsType, _kernel: tuple[int, int]) -> tuple[str, ...]:
        return (sys.executable, "-c", HALF_A_MKFS)

    with patch.object(mkfs, "command", command):
        node.stage(volume.handle, path, Access())


def _device_path(node: Node, volume: Device) -> str:
    return only_pool(node).device(volume.handle.thin).path


def _activated(node: Node, volume: Device) -> str:
    pool = only_pool(node)
    return pool.device(volume.handle.thin).activate(pool.number, node.volume(volume.handle).size)


def _deactivated(node: Node, volume: Device) -> None:
    only_pool(node).device(volume.handle.thin).deactivate()
