"""Disks that must be left alone: each refused with its reason, and not a byte of them changed."""

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from csi.errors import DevicesRefusedError
from csi.lvm.pool_group import PoolGroup
from csi.settings import PoolSpec
from csi.units import MIB, Bytes
from tests.kernel.conftest import MakeDisk, run
from tests.kernel.lvm.conftest import NODE, SMALL, content, lvm

Prepare = Callable[[str], contextlib.AbstractContextManager[None]]


@contextlib.contextmanager
def _mounted(disk: str) -> Iterator[None]:
    run("mkfs.ext4", "-q", disk)
    os.makedirs("/tmp/test-mount", exist_ok=True)
    run("mount", disk, "/tmp/test-mount")
    try:
        yield
    finally:
        run("umount", "/tmp/test-mount")


@contextlib.contextmanager
def _swapped(disk: str) -> Iterator[None]:
    run("mkswap", disk)
    run("swapon", disk)
    try:
        yield
    finally:
        run("swapoff", disk)


@contextlib.contextmanager
def _held(disk: str) -> Iterator[None]:
    run("dmsetup", "create", "test-holder", "--table", f"0 1000 linear {disk} 0")
    try:
        yield
    finally:
        run("dmsetup", "remove", "test-holder")


@contextlib.contextmanager
def _claimed(disk: str) -> Iterator[None]:
    descriptor = os.open(disk, os.O_RDONLY | os.O_EXCL)
    try:
        yield
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _read_only(disk: str) -> Iterator[None]:
    run("blockdev", "--setro", disk)
    try:
        yield
    finally:
        run("blockdev", "--setrw", disk)


@contextlib.contextmanager
def _partition_table(disk: str) -> Iterator[None]:
    table = bytearray(512)
    table[446:462] = bytes([0x80, 0, 2, 0, 0x83, 0, 0, 0]) + (2048).to_bytes(4, "little") + (4096).to_bytes(4, "little")
    table[510:] = b"\x55\xaa"
    with open(disk, "r+b") as stream:
        stream.write(table)
    yield


@contextlib.contextmanager
def _partitioned(disk: str) -> Iterator[None]:
    """Let the kernel know of a partition whose table is not on the disk any more."""
    run("addpart", disk, "1", "2048", "4096")
    try:
        yield
    finally:
        run("delpart", disk, "1")


@contextlib.contextmanager
def _in_a_group(disk: str) -> Iterator[None]:
    lvm("vgcreate", "--devices", disk, "somebody", disk)
    yield


@contextlib.contextmanager
def _in_a_group_of_another_machine(disk: str) -> Iterator[None]:
    owner = 'global/system_id_source="lvmlocal" local/system_id="machine-b"'
    lvm("vgcreate", "--devices", disk, "--config", owner, "elsewhere", disk)
    yield


@contextlib.contextmanager
def _logical_volume(disk: str) -> Iterator[None]:
    """Prepare a disk whose logical volume is active."""
    lvm("vgcreate", "--devices", disk, "active", disk)
    lvm("lvcreate", "--devices", disk, "--yes", "--extents", "100", "--name", "lv", "active")
    try:
        yield
    finally:
        lvm("vgchange", "--devices", disk, "--activate", "n", "active")


FIRM: dict[str, tuple[Prepare, str]] = {
    "mounted": (_mounted, "is mounted at /tmp/test-mount"),
    "swap in use": (_swapped, "swapoff"),
    "held": (_held, "is held by dm-"),
    "claimed": (_claimed, "is in use"),
    "read-only": (_read_only, "is read-only"),
    "partition table": (_partition_table, r"has a partition table \(dos\)"),
    "partitions": (_partitioned, "has partitions"),
    "in a group": (_in_a_group, "belongs to the volume group somebody"),
    "in a foreign group": (_in_a_group_of_another_machine, "belongs to the volume group elsewhere"),
    "in a group in use": (_logical_volume, "belongs to the volume group active"),
}


@pytest.mark.parametrize("case", FIRM)
def test_a_disk_in_any_use_is_refused_whatever_force_says(case: str, make_disk: MakeDisk, state: Path) -> None:
    disk, blank = make_disk(SMALL), make_disk(SMALL)
    prepare, reason = FIRM[case]
    with prepare(disk):
        before = content(disk)
        for force in (False, True):
            with pytest.raises(DevicesRefusedError, match=f"{disk}: .*{reason}"):
                PoolGroup.create(PoolSpec("fast", devices=(blank, disk), force=force), NODE, state)
        assert content(disk) == before
    assert content(blank) == {}


def _file_system(disk: str) -> None:
    run("mkfs.xfs", "-q", disk)


def _swap_space(disk: str) -> None:
    run("mkswap", disk)


def _loose_pv(disk: str) -> None:
    lvm("pvcreate", "--devices", disk, disk)


SIGNATURES: dict[str, tuple[Callable[[str], None], str]] = {
    "xfs": (_file_system, r"holds data \(xfs\)"),
    "swap": (_swap_space, r"holds data \(swap\)"),
    "loose PV": (_loose_pv, r"holds data \(LVM2_member\)"),
}


@pytest.mark.parametrize("case", SIGNATURES)
def test_a_signature_is_refused_and_force_overrides_it(case: str, disk: str, state: Path) -> None:
    prepare, reason = SIGNATURES[case]
    prepare(disk)
    before = content(disk)
    with pytest.raises(DevicesRefusedError, match=reason):
        PoolGroup.create(PoolSpec("fast", devices=(disk,)), NODE, state)
    assert content(disk) == before
    assert PoolGroup.create(PoolSpec("fast", devices=(disk,), force=True), NODE, state).complete


def test_a_disk_of_a_group_whose_other_disk_is_away_is_refused(make_disk: MakeDisk, state: Path) -> None:
    """The metadata is on the other disk: without LVM's mark on this one it would look unused."""
    with_metadata, without = make_disk(SMALL), make_disk(SMALL)
    both = ("--devices", with_metadata, "--devices", without)
    lvm("pvcreate", *both, "--metadatacopies", "0", without)
    lvm("vgcreate", *both, "split", with_metadata, without)
    before = content(without)
    with pytest.raises(DevicesRefusedError, match="a group that cannot be read"):
        PoolGroup.create(PoolSpec("fast", devices=(without,), force=True), NODE, state)
    assert content(without) == before


def test_a_disk_too_small_missing_or_no_disk_is_refused(make_disk: MakeDisk, tmp_path: Path, state: Path) -> None:
    tiny = make_disk(Bytes(64 * MIB))
    with pytest.raises(DevicesRefusedError, match="too small: 64MiB, at least 256MiB"):
        PoolGroup.create(PoolSpec("fast", devices=(tiny,)), NODE, state)
    assert content(tiny) == {}
    (tmp_path / "file").touch()
    for path in (f"{tmp_path}/absent", f"{tmp_path}/file", f"{tmp_path}/*"):
        with pytest.raises(DevicesRefusedError, match=r"no such (block )?device|none of its devices"):
            PoolGroup.create(PoolSpec("fast", devices=(path,)), NODE, state)


def test_of_a_glob_the_blank_disks_are_taken_and_the_others_named(
    make_disk: MakeDisk, tmp_path: Path, state: Path
) -> None:
    taken, refused = make_disk(SMALL), make_disk(SMALL)
    run("mkfs.ext4", "-q", refused)
    before = content(refused)
    for number, disk in enumerate((taken, refused, taken)):
        (tmp_path / f"disk{number}").symlink_to(disk)
    group = PoolGroup.create(PoolSpec("fast", devices=(f"{tmp_path}/disk*",)), NODE, state)
    assert group.devices == (taken,)
    assert list(group.refused) == [f"{tmp_path}/disk1"]
    assert "ext4" in group.refused[f"{tmp_path}/disk1"]
    assert content(refused) == before
