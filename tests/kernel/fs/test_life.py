"""Each file system from a blank device through mounting, checking, growing and cloning, on the running kernel."""

import os
import struct
from pathlib import Path

import pytest

from csi.dm.ioctl import Control
from csi.dm.targets import Line
from csi.errors import DataLossError, KernelError, StateError
from csi.fs import check, mkfs
from csi.fs.mount import mount, unmount
from csi.fs.options import Options
from csi.fs.paths import Root
from csi.fs.usage import usage
from csi.model import FsType
from csi.units import MIB, Bytes, Sectors, sectors
from tests.kernel.conftest import MakeDisk, run

SIZE = Bytes(320 * MIB)
LARGER = Bytes(448 * MIB)

SUPERBLOCK = {FsType.EXT4: (1024, 1024), FsType.XFS: (0, 512), FsType.BTRFS: (65536, 4096)}
"""Where it lies, and how long it is."""

each = pytest.mark.parametrize("fs_type", FsType)


def formatted(make_disk: MakeDisk, fs_type: FsType, size: Bytes = SIZE, profile: str = "auto") -> str:
    device = make_disk(size)
    mkfs.make(device, fs_type, profile=profile)
    return device


def mounted(root: Root, device: str, fs_type: FsType, name: str = "a", *options: str) -> str:
    with root.directory(f"{root.path}/{name}") as place:
        assert mount(device, place, fs_type, Options.parse(fs_type, options)).is_of(device)
    return f"{root.path}/{name}"


def backing(device: str) -> str:
    return run("losetup", "--noheadings", "--output", "BACK-FILE", device).strip()


def clone(make_disk: MakeDisk, device: str) -> str:
    """Copy the device block by block, as a snapshot of it would look."""
    copy = make_disk(check.device_size(device))
    run("cp", "--sparse=always", backing(device), backing(copy))
    run("blockdev", "--flushbufs", copy)
    return copy


def enlarge(device: str, size: Bytes) -> None:
    os.truncate(backing(device), size)
    run("losetup", "--set-capacity", device)


def damage(device: str, at: int, length: int) -> None:
    with open(device, "r+b") as file:
        file.seek(at)
        file.write(os.urandom(length))
        file.flush()
        os.fsync(file.fileno())
    run("blockdev", "--flushbufs", device)


@each
@pytest.mark.parametrize("profile", ["auto", "4.19"])
def test_the_running_kernel_mounts_what_was_made(
    root: Root, make_disk: MakeDisk, fs_type: FsType, profile: str
) -> None:
    device = formatted(make_disk, fs_type, profile=profile)
    found = check.probe(device)
    assert (found.fs_type, found.blank) == (fs_type, False)
    check.fsck(device, fs_type)
    path = mounted(root, device, fs_type)
    Path(path, "file").write_text("kept")
    assert unmount(root, path)
    check.fsck(device, fs_type)
    assert Path(mounted(root, device, fs_type), "file").read_text() == "kept"


@each
def test_the_smallest_size_is_enough(root: Root, make_disk: MakeDisk, fs_type: FsType) -> None:
    device = formatted(make_disk, fs_type, mkfs.minimum_size(fs_type))
    path = mounted(root, device, fs_type)
    assert not check.needs_growth(device, path, fs_type)
    Path(path, "file").write_bytes(bytes(MIB))


def test_an_ext4_takes_little_space_of_a_fresh_device(root: Root, make_disk: MakeDisk) -> None:
    device = formatted(make_disk, FsType.EXT4, Bytes(8192 * MIB))
    mounted(root, device, FsType.EXT4)
    run("sync")
    assert os.stat(backing(device)).st_blocks * 512 < 8 * MIB


@each
def test_a_device_that_holds_a_file_system_is_not_formatted(make_disk: MakeDisk, fs_type: FsType) -> None:
    device = formatted(make_disk, FsType.EXT4)
    before = check.probe(device)
    with pytest.raises(StateError, match="it holds ext4"):
        mkfs.make(device, fs_type)
    assert check.probe(device) == before


@each
def test_a_damaged_superblock_is_not_blank_not_formatted_and_not_mounted(
    root: Root, make_disk: MakeDisk, fs_type: FsType
) -> None:
    device = formatted(make_disk, fs_type)
    damage(device, *SUPERBLOCK[fs_type])
    found = check.probe(device)
    assert (found.fs_type, found.blank, found.name) == (None, False, "unknown data")
    with pytest.raises(StateError, match="unknown data"):
        mkfs.make(device, fs_type)
    if fs_type is FsType.EXT4:
        with pytest.raises(DataLossError):
            check.fsck(device, fs_type)
    with pytest.raises((DataLossError, StateError)):
        mounted(root, device, fs_type)
    assert root.mounted(f"{root.path}/a") is None


@each
def test_a_superblock_of_zeros_is_not_blank(make_disk: MakeDisk, fs_type: FsType) -> None:
    device = formatted(make_disk, fs_type)
    at, length = SUPERBLOCK[fs_type]
    with open(device, "r+b") as file:
        file.seek(at)
        file.write(bytes(length))
    run("blockdev", "--flushbufs", device)
    found = check.probe(device)
    assert (found.fs_type, found.blank, found.name) == (None, False, "unknown data")


def test_tells_blank_devices_from_other_content(make_disk: MakeDisk) -> None:
    device = make_disk(SIZE)
    assert check.probe(device).blank
    for make, name in (
        (["mkswap", device], "swap"),
        (["mke2fs", "-q", "-t", "ext3", device], "ext3"),
        (["pvcreate", "--devices", device, "-qq", "-y", device], "LVM2_member"),
    ):
        run(*make)
        found = check.probe(device)
        assert (found.fs_type, found.blank, found.name) == (None, False, name)
        run("wipefs", "--all", "--quiet", device)
    run("blkdiscard", device)
    assert check.probe(device).blank


def test_a_partition_table_is_other_content(make_disk: MakeDisk) -> None:
    device = make_disk(SIZE)
    table = bytearray(512)
    struct.pack_into("<BBBBBBBBII", table, 446, 0, 0, 2, 0, 0x83, 0, 0, 0, 2048, 2048)
    table[510:] = b"\x55\xaa"
    with open(device, "r+b") as file:
        file.write(table)
    found = check.probe(device)
    assert (found.blank, found.name) == (False, "a dos partition table")


@each
def test_grows_while_mounted_and_only_when_there_is_room(
    root: Root, make_disk: MakeDisk, fs_type: FsType, monkeypatch: pytest.MonkeyPatch
) -> None:
    device = formatted(make_disk, fs_type)
    path = mounted(root, device, fs_type)
    Path(path, "file").write_text("kept")
    with monkeypatch.context() as patch:
        patch.setattr(check, "run", lambda *_, **__: pytest.fail("ran a program with nothing to do"))
        assert not check.grow(device, path, fs_type)
    with root.directory(path) as place:
        before = usage(place).total
    enlarge(device, LARGER)
    assert check.needs_growth(device, path, fs_type)
    assert check.grow(device, path, fs_type)
    with root.directory(path) as place:
        assert usage(place).total >= before + 0.9 * (LARGER - SIZE)
    assert not check.needs_growth(device, path, fs_type)
    unmount(root, path)
    path = mounted(root, device, fs_type)
    assert not check.needs_growth(device, path, fs_type)
    assert Path(path, "file").read_text() == "kept"


@each
@pytest.mark.parametrize("step", [1, 4, 16, 64, 130])
def test_after_growth_nothing_is_left_to_grow(root: Root, make_disk: MakeDisk, fs_type: FsType, step: int) -> None:
    device = formatted(make_disk, fs_type)
    path = mounted(root, device, fs_type)
    enlarge(device, Bytes(SIZE + step * MIB))
    check.grow(device, path, fs_type)
    assert not check.needs_growth(device, path, fs_type)


@each
def test_a_larger_clone_grows_when_it_is_mounted(root: Root, make_disk: MakeDisk, fs_type: FsType) -> None:
    source = formatted(make_disk, fs_type)
    copy = clone(make_disk, source)
    enlarge(copy, LARGER)
    check.renew_uuid(copy, fs_type)
    path = mounted(root, copy, fs_type)
    assert check.grow(copy, path, fs_type)
    assert not check.needs_growth(copy, path, fs_type)


@each
def test_a_clone_mounts_beside_its_source_and_a_clone_of_the_clone_too(
    root: Root, make_disk: MakeDisk, fs_type: FsType
) -> None:
    source = formatted(make_disk, fs_type)
    path = mounted(root, source, fs_type)
    Path(path, "file").write_text("first")
    run("sync")
    unmount(root, path)
    copy = clone(make_disk, source)
    mounted(root, source, fs_type)
    check.fsck(copy, fs_type)
    check.renew_uuid(copy, fs_type)
    second = clone(make_disk, copy)
    beside = mounted(root, copy, fs_type, "b")
    assert Path(beside, "file").read_text() == "first"
    Path(beside, "file").write_text("second")
    assert Path(path, "file").read_text() == "first"
    check.fsck(second, fs_type)
    check.renew_uuid(second, fs_type)
    os.mkdir(f"{root.path}/c")
    assert Path(mounted(root, second, fs_type, "c"), "file").read_text() == "first"


def test_a_btrfs_with_the_uuid_of_a_mounted_one_is_refused(root: Root, make_disk: MakeDisk) -> None:
    source = formatted(make_disk, FsType.BTRFS)
    copy = clone(make_disk, source)
    mounted(root, source, FsType.BTRFS)
    with pytest.raises((KernelError, StateError), match="UUID"):
        mounted(root, copy, FsType.BTRFS, "b")
    assert root.mounted(f"{root.path}/b") is None
    check.renew_uuid(copy, FsType.BTRFS)
    mounted(root, copy, FsType.BTRFS, "b")


def test_a_btrfs_uuid_renewed_twice_is_as_good_as_once(root: Root, make_disk: MakeDisk) -> None:
    source = formatted(make_disk, FsType.BTRFS)
    path = mounted(root, source, FsType.BTRFS)
    Path(path, "file").write_text("kept")
    unmount(root, path)
    copy = clone(make_disk, source)
    mounted(root, source, FsType.BTRFS)
    seen = {check.probe(copy).uuid}
    for _ in range(2):
        check.renew_uuid(copy, FsType.BTRFS)
        seen.add(check.probe(copy).uuid)
    assert len(seen) == 3
    path = mounted(root, copy, FsType.BTRFS, "b")
    assert Path(path, "file").read_text() == "kept"
    Path(path, "more").write_bytes(os.urandom(MIB))
    unmount(root, path)
    run("btrfs", "check", copy)


def test_a_btrfs_copy_that_was_scanned_before_it_got_its_own_uuid_mounts(root: Root, make_disk: MakeDisk) -> None:
    source = formatted(make_disk, FsType.BTRFS)
    path = mounted(root, source, FsType.BTRFS)
    Path(path, "file").write_text("source")
    unmount(root, path)
    first, second = clone(make_disk, source), clone(make_disk, source)
    # As a udev rule of the host would, with the source unmounted: the kernel now takes the copy for the source.
    run("btrfs", "device", "scan", first)
    check.renew_uuid(first, FsType.BTRFS)
    mounted(root, first, FsType.BTRFS, "b")
    Path(root.path, "b", "file").write_text("first")
    run("btrfs", "device", "scan", second)
    path = mounted(root, source, FsType.BTRFS)
    assert Path(path, "file").read_text() == "source"
    check.renew_uuid(second, FsType.BTRFS)
    os.mkdir(f"{root.path}/c")
    assert Path(mounted(root, second, FsType.BTRFS, "c"), "file").read_text() == "source"
    assert Path(root.path, "b", "file").read_text() == "first"


def test_the_uuid_of_a_mounted_btrfs_is_left_alone(root: Root, make_disk: MakeDisk) -> None:
    device = formatted(make_disk, FsType.BTRFS)
    mounted(root, device, FsType.BTRFS)
    before = check.probe(device)
    with pytest.raises(StateError, match="in use"):
        check.renew_uuid(device, FsType.BTRFS)
    assert check.probe(device) == before


@each
def test_a_file_system_that_lost_its_power_mounts_with_what_was_synced(
    root: Root, make_disk: MakeDisk, fs_type: FsType
) -> None:
    source = formatted(make_disk, fs_type)
    path = mounted(root, source, fs_type)
    for number in range(50):
        Path(path, f"file{number}").write_text(str(number))
    with open(f"{path}/synced", "x") as file:
        file.write("kept")
        file.flush()
        os.fsync(file.fileno())
    copy = clone(make_disk, source)
    check.fsck(copy, fs_type)
    check.renew_uuid(copy, fs_type)
    assert Path(mounted(root, copy, fs_type, "b"), "synced").read_text() == "kept"


def test_an_ext4_with_an_error_that_can_be_repaired_is_repaired(root: Root, make_disk: MakeDisk) -> None:
    device = formatted(make_disk, FsType.EXT4)
    run("debugfs", "-w", "-R", "set_super_value free_blocks_count 1", device)
    run("debugfs", "-w", "-R", "set_super_value state 0", device)
    check.fsck(device, FsType.EXT4)
    mounted(root, device, FsType.EXT4)


def test_an_ext4_with_errors_left_is_data_loss_and_keeps_its_content(make_disk: MakeDisk) -> None:
    device = formatted(make_disk, FsType.EXT4)
    run("debugfs", "-w", "-R", "clri <2>", device)
    run("debugfs", "-w", "-R", "set_super_value state 2", device)
    before = Path(backing(device)).read_bytes()
    with pytest.raises(DataLossError, match="e2fsck -p left errors"):
        check.fsck(device, FsType.EXT4)
    assert len(before) == SIZE
    assert check.probe(device).fs_type is FsType.EXT4


def test_a_device_that_cannot_be_read_is_an_error_and_not_blank(control: Control) -> None:
    control.create("test-broken")
    control.load("test-broken", [Line(Sectors(0), sectors(SIZE), "error", "")])
    control.resume("test-broken")
    info = control.info("test-broken")
    assert info is not None
    for fs_type in FsType:
        with pytest.raises(KernelError, match="EIO"):
            check.probe(f"/dev/dm-{info.minor}")
        with pytest.raises(KernelError, match="EIO"):
            mkfs.make(f"/dev/dm-{info.minor}", fs_type)
