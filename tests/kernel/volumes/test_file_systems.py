"""File systems of volumes: made once, checked, grown, copied, and never over data."""

import hashlib
import os
import subprocess
from pathlib import Path

import pytest

from csi.errors import DataLossError, ExistsError, InvalidRequestError, SizeError, StateError
from csi.model import Device, FsType
from csi.units import GIB, KIB, MIB, Bytes
from csi.volumes.requests import Access, VolumeRequest
from tests.kernel.conftest import run
from tests.kernel.volumes.served import Served

_SIZES = {FsType.EXT4: 64 * MIB, FsType.XFS: 300 * MIB, FsType.BTRFS: 128 * MIB}
_every_type = pytest.mark.parametrize("fs_type", list(FsType))
# Where each begins what it cannot be recognised without, and how much of it.
_SUPERBLOCKS = {FsType.EXT4: (0, 4 * KIB), FsType.XFS: (0, 4 * KIB), FsType.BTRFS: (64 * KIB, 4 * KIB)}


def _filled(served: Served, name: str, fs_type: FsType) -> Device:
    """Make a volume with a file in it, at rest."""
    volume = served.create(name, _SIZES[fs_type], fs_type=fs_type)
    Path(served.staged(volume), "file").write_text(name)
    served.unstage(volume)
    return volume


def _digest(served: Served, volume: Device) -> str:
    with served.raw(volume) as path, open(path, "rb") as device:
        return hashlib.file_digest(device, "sha256").hexdigest()


def _mapped_anything(served: Served, volume: Device) -> bool:
    with served.raw(volume):
        status = served.pool.device(volume.handle.thin).status()
    assert status is not None
    return bool(status.mapped)


@_every_type
def test_a_damaged_superblock_is_refused_and_nothing_is_written(served: Served, fs_type: FsType) -> None:
    volume = _filled(served, "v", fs_type)
    at, length = _SUPERBLOCKS[fs_type]
    with served.raw(volume) as path, open(path, "r+b") as device:
        device.seek(at)
        device.write(os.urandom(length))
    before = _digest(served, volume)
    with pytest.raises(DataLossError, match=f"{volume.handle}.*{fs_type}.*nothing was written"):
        served.staged(volume)
    assert not served.active(volume.handle)
    assert _digest(served, volume) == before
    with pytest.raises(DataLossError):
        served.staged(served.copy("copy", volume.handle))


@_every_type
def test_a_formatted_volume_that_maps_nothing_is_lost_data_and_not_formatted(served: Served, fs_type: FsType) -> None:
    volume = _filled(served, "v", fs_type)
    with served.raw(volume) as path:
        run("blkdiscard", path)
    with pytest.raises(DataLossError, match=f"{volume.handle}.*nothing"):
        served.staged(volume)
    assert not _mapped_anything(served, volume)


def test_raw_blocks_without_a_file_system_are_not_mounted_as_one_nor_formatted(served: Served) -> None:
    blocks = served.create("blocks", block=True)
    copy = served.copy("copy", blocks.handle)
    with pytest.raises(StateError, match=f"{copy.handle}.*mounted as ext4 and shows nothing"):
        served.staged(copy)
    assert not _mapped_anything(served, copy)


def test_an_unformatted_volume_that_holds_data_is_not_formatted(served: Served) -> None:
    volume = served.create("v")
    with served.raw(volume) as path, open(path, "r+b") as device:
        device.seek(32 * MIB)
        device.write(b"somebody's")
    before = _digest(served, volume)
    with pytest.raises(DataLossError, match=f"{volume.handle}.*never formatted"):
        served.staged(volume)
    assert _digest(served, volume) == before


def test_another_file_system_than_the_volume_has_is_refused(served: Served) -> None:
    volume = _filled(served, "v", FsType.EXT4)
    os.mkdir(served.path("s"))
    with pytest.raises(StateError, match="holds ext4, xfs was asked for"):
        served.node.stage(volume.handle, served.path("s"), Access(fs_type=FsType.XFS))
    with pytest.raises(StateError, match="made as a file system, raw block"):
        served.node.stage(volume.handle, served.path("s"), Access(block=True))
    with pytest.raises(InvalidRequestError, match="source has ext4, xfs"):
        served.node.create_volume(VolumeRequest("c", source=volume.handle, fs_type=FsType.XFS))
    assert not served.active(volume.handle)


@_every_type
def test_a_clone_is_mounted_beside_its_source_and_each_has_its_own_content(served: Served, fs_type: FsType) -> None:
    volume = served.create("v", _SIZES[fs_type], fs_type=fs_type)
    source = Path(served.staged(volume))
    source.joinpath("file").write_text("both")
    clone = served.copy("clone", volume.handle)
    again = served.copy("clone of the clone", clone.handle)
    places = [Path(served.staged(each)) for each in (clone, again)]
    for place in places:
        assert place.joinpath("file").read_text() == "both"
        place.joinpath("file").write_text(place.name)
    assert source.joinpath("file").read_text() == "both"
    for volume_, place in zip((volume, clone, again), (source, *places), strict=True):
        written = place.joinpath("file").read_text()
        served.unstage(volume_)
        assert Path(served.staged(volume_), "file").read_text() == written
    if fs_type is FsType.BTRFS:
        devices = [served.pool.device(each.handle.thin).path for each in (volume, clone, again)]
        uuids = {run("blkid", "--probe", "--output", "value", "--match-tag", "UUID", device) for device in devices}
        assert len(uuids) == 3


@_every_type
def test_a_snapshot_restored_into_a_larger_volume_grows_when_it_is_staged(served: Served, fs_type: FsType) -> None:
    volume = served.create("v", _SIZES[fs_type], fs_type=fs_type)
    Path(served.staged(volume), "file").write_text("kept")
    snapshot = served.node.create_snapshot("s", volume.handle)
    restored = served.copy("r", snapshot.handle, 1 * GIB)
    place = served.staged(restored)
    assert Path(place, "file").read_text() == "kept"
    assert served.node.usage(restored.handle, place).total > 900 * MIB
    assert served.node.usage(volume.handle, served.path(f"staged-{volume.handle}")).total <= _SIZES[fs_type]


@_every_type
def test_a_mounted_volume_grows_under_its_user(served: Served, fs_type: FsType) -> None:
    volume = served.create("v", _SIZES[fs_type], fs_type=fs_type)
    place = served.staged(volume)
    with open(f"{place}/file", "w") as file:
        grown = served.node.expand_volume(volume.handle, Bytes(volume.size + 512 * MIB), Bytes(0))
        assert grown.size == volume.size + 512 * MIB
        assert served.node.expand_fs(volume.handle, place) == grown.size
        file.write("still writing")
    assert served.node.usage(volume.handle, place).total > volume.size + 400 * MIB


def test_a_small_btrfs_grows_at_once_to_what_the_kernel_takes(served: Served) -> None:
    """It resizes none to less than 256 MiB."""
    volume = served.create("v", 128 * MIB, fs_type=FsType.BTRFS)
    place = served.staged(volume)
    snapshot = served.node.create_snapshot("s", volume.handle)
    with pytest.raises(SizeError):
        served.node.expand_volume(volume.handle, Bytes(160 * MIB), Bytes(200 * MIB))
    assert served.node.expand_volume(volume.handle, Bytes(160 * MIB), Bytes(0)).size == 256 * MIB
    assert served.node.expand_fs(volume.handle, place) == 256 * MIB
    assert served.copy("same", snapshot.handle).size == 128 * MIB
    larger = served.copy("larger", snapshot.handle, 160 * MIB)
    assert larger.size == 256 * MIB
    assert served.node.usage(larger.handle, served.staged(larger)).total > 200 * MIB


def test_a_read_only_stage_and_a_read_only_target_take_no_writes(served: Served) -> None:
    volume = _filled(served, "v", FsType.EXT4)
    place = served.staged(volume, read_only=True)
    with pytest.raises(OSError, match="Read-only"):
        Path(place, "more").write_text("x")
    with pytest.raises(ExistsError, match="another access mode"):
        served.staged(volume)
    served.unstage(volume)

    place = served.staged(volume)
    targets = [served.path("rw"), served.path("ro")]
    for target in targets:
        served.node.publish(volume.handle, place, target, Access(), readonly=target.endswith("ro"))
    Path(targets[0], "more").write_text("x")
    assert Path(targets[1], "more").read_text() == "x"
    with pytest.raises(OSError, match="Read-only"):
        Path(targets[1], "more").write_text("y")


def test_an_ext4_with_an_error_noted_is_checked_before_it_is_mounted_again(served: Served) -> None:
    volume = _filled(served, "v", FsType.EXT4)
    with served.raw(volume) as path:
        for field in ("state 2", "error_count 3"):
            subprocess.run(["debugfs", "-w", "-R", f"set_super_value {field}", path], check=True, capture_output=True)
        assert "with errors" in run("dumpe2fs", "-h", path)
    assert Path(served.staged(volume), "file").read_text() == "v"
    assert served.node.volume_health(volume.handle) == []
    served.unstage(volume)
    with served.raw(volume) as path:
        assert "with errors" not in run("dumpe2fs", "-h", path)


def test_an_ext4_that_cannot_be_put_right_safely_is_refused(served: Served) -> None:
    volume = _filled(served, "v", FsType.EXT4)
    with served.raw(volume) as path:
        for command in ("clri <2>", "set_super_value state 2"):
            subprocess.run(["debugfs", "-w", "-R", command, path], check=True, capture_output=True)
    with pytest.raises(DataLossError, match="left errors"):
        served.staged(volume)
    assert not served.active(volume.handle)


def test_what_an_interrupted_mkfs_left_is_emptied_and_made_anew(served: Served) -> None:
    volume = served.create("v")
    served.pool.catalog.formatting(volume)
    with served.raw(volume) as path, open(path, "r+b") as device:
        device.write(os.urandom(MIB))
    place = served.staged(volume)
    assert os.listdir(place) == ["lost+found"]


def test_a_file_system_for_an_older_kernel_is_mounted_too(served: Served) -> None:
    for fs_type, profile in ((FsType.XFS, "5.10"), (FsType.EXT4, "4.18"), (FsType.BTRFS, "5.4")):
        request = VolumeRequest(fs_type, VolumeRequest("").required, fs_type=fs_type, mkfs_profile=profile)
        Path(served.staged(served.node.create_volume(request)), "file").write_text("x")
