"""What waits for a device that is in use for a moment more, on the running kernel."""

import contextlib
import os
import threading
from collections.abc import Iterator

import pytest

from csi.errors import StateError
from csi.fs import btrfs, check, mkfs
from csi.fs.mount import mount
from csi.fs.options import Options
from csi.fs.paths import Root
from csi.model import FsType
from csi.units import MIB, Bytes
from tests.kernel.conftest import MakeDisk, run

SIZE = Bytes(320 * MIB)


@pytest.mark.parametrize("fs_type", FsType)
def test_a_device_that_becomes_free_in_time_is_mounted(root: Root, make_disk: MakeDisk, fs_type: FsType) -> None:
    device = make_disk(SIZE)
    mkfs.make(device, fs_type)
    with _held_for_a_moment(device), root.directory(f"{root.path}/a") as place:
        assert mount(device, place, fs_type, Options()).is_of(device)


def test_a_btrfs_that_becomes_free_in_time_gets_its_uuid(make_disk: MakeDisk) -> None:
    device = make_disk(SIZE)
    mkfs.make(device, FsType.BTRFS)
    with _held_for_a_moment(device):
        btrfs.renew_uuid(device)


def test_an_ext4_that_becomes_free_in_time_is_checked(make_disk: MakeDisk) -> None:
    device = _not_in_order(make_disk)
    with _held_for_a_moment(device):
        check.fsck(device, FsType.EXT4)
    assert "clean" in run("dumpe2fs", "-h", device)


def test_an_ext4_that_stays_in_use_is_not_checked(make_disk: MakeDisk, monkeypatch: pytest.MonkeyPatch) -> None:
    device = _not_in_order(make_disk)
    monkeypatch.setattr(check, "DEVICE_PATIENCE", 0.3)
    held = os.open(device, os.O_RDONLY | os.O_EXCL)
    try:
        with pytest.raises(StateError, match=f"check {device}: it is in use"):
            check.fsck(device, FsType.EXT4)
    finally:
        os.close(held)
    assert "not clean" in run("dumpe2fs", "-h", device)


def _not_in_order(make_disk: MakeDisk) -> str:
    """Return a device whose ext4 was not unmounted, by its own account."""
    device = make_disk(SIZE)
    mkfs.make(device, FsType.EXT4)
    run("debugfs", "-w", "-R", "set_super_value state 0", device)
    return device


@contextlib.contextmanager
def _held_for_a_moment(device: str) -> Iterator[None]:
    """Hold the device as a process does that was forked while it was open exclusively, until its exec."""
    held = os.open(device, os.O_RDONLY | os.O_EXCL)
    letting_go = threading.Timer(0.5, os.close, (held,))
    letting_go.start()
    yield
    letting_go.join()
