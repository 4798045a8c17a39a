"""What is on a device, whether it is sound, and how it is made to fit: probe, fsck, growth, a UUID of its own."""

import errno
import os
import struct
import time
from dataclasses import dataclass
from typing import Final

from csi.errors import CommandError, DataLossError, KernelError, StateError
from csi.fs import btrfs
from csi.fs.busy import DEVICE_PATIENCE, until_free
from csi.model import FsType
from csi.process import Completed, run
from csi.units import MIB, Bytes

_PROBE_DEADLINE: Final = 60.0
_FSCK_DEADLINE: Final = 3600.0
_GROW_DEADLINE: Final = 600.0

# e2fsck(8): 1 and 2 mean repaired, 4 errors left, 8 an operational error, which a bad superblock is too.
_FSCK_REPAIRED: Final = (0, 1, 2, 3)
_FSCK_LEFT: Final = 4
_FSCK_FAILED: Final = 8

# blkid(8): nothing was found, or the device could not be read; several signatures that contradict each other.
_BLKID_NOTHING: Final = 2
_BLKID_AMBIVALENT: Final = 8
# What must be zero on a blank device: the first MiB, and where btrfs keeps the first copy of its superblock.
_ZEROS: Final = ((0, MIB), (64 * MIB, 4096))

_EXT4_SUPERBLOCK: Final = 1024
_EXT4_MAGIC: Final = 0xEF53
_EXT4_LARGEST_BLOCK: Final = 6
"""64 KiB, as the power of two above 1 KiB (fs/ext4/ext4.h, ``EXT4_MAX_BLOCK_LOG_SIZE``)."""
_EXT4_VALID: Final = 1
"""The state of one that was unmounted, with no error noted (``EXT4_VALID_FS``)."""
_EXT4_RECOVER: Final = 4
"""The log must be replayed (``EXT4_FEATURE_INCOMPAT_RECOVER``)."""
_XFS_SUPERBLOCK: Final = 512
_XFS_SMALLEST_GROUP: Final = 64
"""In blocks (fs/xfs/libxfs/xfs_ag.h, ``XFS_MIN_AG_BLOCKS``)."""


_MAGIC: Final = {
    FsType.EXT4: (_EXT4_SUPERBLOCK + 0x38, b"\x53\xef"),
    FsType.XFS: (0, b"XFSB"),
    FsType.BTRFS: (64 * 1024 + 0x40, b"_BHRfS_M"),
}
"""Where each says that it is one, and how (include/uapi/linux/magic.h; the superblocks' structures)."""


@dataclass(frozen=True)
class Content:
    """What a device holds, by a look at it now."""

    fs_type: FsType | None
    """The file system, if it is one of ours."""
    blank: bool
    """Whether no signature was found and where each of our file systems begins there are only zeros."""
    name: str
    """For a message: ``ext4``, ``LVM2_member``, ``a gpt partition table``, ``nothing``, ``unknown data``."""
    uuid: str = ""


def probe(device: str) -> Content:
    """Look at what ``device`` holds, with no cache between (blkid(8), ``--probe``).

    blkid says "nothing" of a device that it cannot read and of a file system whose superblock is damaged. So what each
    of ours writes first is read here as well: only zeros are blank. Raise KernelError if the device cannot be read,
    CommandError if blkid fails.
    """
    _read(device, 0, 1)
    nothing, ambivalent = _BLKID_NOTHING, _BLKID_AMBIVALENT
    argv = ["blkid", "--probe", "--output", "export", device]
    done = run(argv, deadline=_PROBE_DEADLINE, ok=(0, nothing, ambivalent))
    if done.status == ambivalent:
        return Content(None, blank=False, name="several signatures that contradict each other")
    tags = dict(line.partition("=")[::2] for line in done.stdout.splitlines() if "=" in line)
    kind, table = tags.get("TYPE", ""), tags.get("PTTYPE", "")
    if kind:
        ours = FsType(kind) if kind in FsType.__members__.values() else None
        return Content(ours, blank=False, name=kind, uuid=tags.get("UUID", ""))
    if table:
        return Content(None, blank=False, name=f"a {table} partition table")
    if done.status == 0:
        return Content(None, blank=False, name=tags.get("USAGE", "a signature without a name"))
    starts = [_read(device, at, length) for at, length in _ZEROS]
    if all(start.count(0) == len(start) for start in starts):
        return Content(None, blank=True, name="nothing")
    return Content(None, blank=False, name="unknown data")


def begins_as(device: str, fs_type: FsType) -> bool:
    """Tell whether ``device`` has the mark of ``fs_type``, at the cost of one read. Raise KernelError."""
    at, magic = _MAGIC[fs_type]
    return _read(device, at, len(magic)) == magic


def fsck(device: str, fs_type: FsType) -> None:
    """Check the unmounted file system on ``device`` and repair what can be repaired safely (``e2fsck -p``).

    xfs and btrfs replay their logs when they are mounted and have nothing to do here; nor has an ext4 that was left in
    good order. A device in use is tried again for DEVICE_PATIENCE: one that somebody just unmounted leaves the mount
    table before the kernel has let it go. Raise DataLossError if errors are left or the superblock is not one,
    StateError if the device stays in use, CommandError if the check could not be made, KernelError if the device cannot
    be read.
    """
    if fs_type is not FsType.EXT4 or _ext4_in_order(_read(device, _EXT4_SUPERBLOCK, _EXT4_SUPERBLOCK)):
        return
    try:
        done = until_free(lambda: _e2fsck(device), time.monotonic() + DEVICE_PATIENCE)
    except OSError as error:
        number = error.errno or 0
        raise StateError("check", device, "it is in use", errno=number, way_out="unmount it there first") from error
    if done.status in _FSCK_REPAIRED:
        return
    said = _said(done)
    if done.status & _FSCK_LEFT or probe(device).fs_type is not FsType.EXT4:
        raise DataLossError(
            "check",
            device,
            f"e2fsck -p left errors: {said}",
            way_out="nothing was formatted; run 'e2fsck -f' by hand on a snapshot of it, or restore an older snapshot",
        )
    raise CommandError("check", device, f"e2fsck -p ended with exit status {done.status}: {said}")


def _e2fsck(device: str) -> Completed:
    """Run it once. Raise OSError EBUSY if it did nothing as the device is in use (e2fsck/unix.c, ``check_mount``)."""
    ok = (*_FSCK_REPAIRED, *(_FSCK_LEFT | low for low in _FSCK_REPAIRED), *range(_FSCK_FAILED, _FSCK_FAILED << 1))
    done = run(["e2fsck", "-p", device], deadline=_FSCK_DEADLINE, ok=ok)
    if done.status == _FSCK_FAILED and "is in use" in _said(done):
        raise OSError(errno.EBUSY, os.strerror(errno.EBUSY), device)
    return done


def _said(done: Completed) -> str:
    return " ".join((done.stdout + done.stderr).split())[-500:]


def device_size(device: str) -> Bytes:
    """Return the size of a block device. Raise KernelError."""
    try:
        fd = os.open(device, os.O_RDONLY | os.O_CLOEXEC)
        try:
            return Bytes(os.lseek(fd, 0, os.SEEK_END))
        finally:
            os.close(fd)
    except OSError as error:
        raise KernelError("measure", device, "the device does not answer", errno=error.errno or 0) from error


def needs_growth(device: str, mount_point: str, fs_type: FsType) -> bool:
    """Tell whether the mounted file system can grow into ``device``, at the cost of a few reads.

    What no tool would add does not count: the end of a device that is too short for a block group or an allocation
    group of its own. Raise KernelError if device or file system cannot be read.
    """
    size = device_size(device)
    if fs_type is FsType.EXT4:
        return _ext4_can_grow(_read(device, 0, 1024 + _EXT4_SUPERBLOCK)[1024:], size, device)
    try:
        found = os.statvfs(mount_point)
    except OSError as error:
        raise KernelError("measure", mount_point, "no answer", errno=error.errno or 0) from error
    if fs_type is FsType.XFS:
        return _xfs_can_grow(_read(device, 0, _XFS_SUPERBLOCK), found.f_blocks, size, device)
    return size - found.f_blocks * found.f_frsize >= found.f_frsize


def grow(device: str, mount_point: str, fs_type: FsType) -> bool:
    """Grow the mounted file system to the size of ``device``; return whether there was anything to do.

    All three grow while mounted, and only so. Raise CommandError if the tool fails, KernelError as needs_growth does.
    """
    if not needs_growth(device, mount_point, fs_type):
        return False
    argv = {
        FsType.EXT4: ["resize2fs", device],
        FsType.XFS: ["xfs_growfs", "-d", mount_point],
        FsType.BTRFS: ["btrfs", "filesystem", "resize", "max", mount_point],
    }[fs_type]
    run(argv, deadline=_GROW_DEADLINE)
    return True


def renew_uuid(device: str, fs_type: FsType) -> None:
    """Give the copy of a file system on ``device``, not mounted, a UUID of its own; it may be done again at will.

    Only btrfs needs it, and before the copy is ever mounted: see csi/fs/btrfs.py, also for the errors. xfs is mounted
    ``nouuid`` and ext4 does not mind.
    """
    if fs_type is FsType.BTRFS:
        btrfs.renew_uuid(device)


def _read(device: str, at: int, length: int) -> bytes:
    """Read ``length`` bytes from ``at`` on; fewer only where the device ends."""
    try:
        fd = os.open(device, os.O_RDONLY | os.O_CLOEXEC)
        try:
            return os.pread(fd, length, at)
        finally:
            os.close(fd)
    except OSError as error:
        raise KernelError("read", device, "the device does not answer", errno=error.errno or 0) from error


def _ext4_in_order(superblock: bytes) -> bool:
    """Tell whether e2fsck would look no further (e2fsck/unix.c, ``check_if_skip``), and yet write to the journal.

    Neither is its log to be replayed, nor are there inodes to be freed, nor has an error ever been noted.
    """
    if len(superblock) < _EXT4_SUPERBLOCK or _number("<H", superblock, 0x38) != _EXT4_MAGIC:
        return False
    recover = _number("<I", superblock, 0x60) & _EXT4_RECOVER
    orphans, errors = _number("<I", superblock, 0xE8), _number("<I", superblock, 0x194)
    return _number("<H", superblock, 0x3A) == _EXT4_VALID and not recover and not orphans and not errors


def _ext4_can_grow(superblock: bytes, size: Bytes, device: str) -> bool:
    """Compare the superblock (fs/ext4/ext4.h, ``struct ext4_super_block``) with the device's size.

    The kernel keeps it in the device's own page cache, so it is up to date while mounted.
    """
    if len(superblock) < _EXT4_SUPERBLOCK or _number("<H", superblock, 0x38) != _EXT4_MAGIC:
        raise KernelError("measure", device, "no ext4 superblock", errno=errno.EUCLEAN)
    if not _number("<I", superblock, 0x20) or _number("<I", superblock, 0x18) > _EXT4_LARGEST_BLOCK:
        raise KernelError("measure", device, "its ext4 superblock is damaged", errno=errno.EUCLEAN)
    blocks = _number("<I", superblock, 0x150) << 32 | _number("<I", superblock, 0x04)
    first, per_group = _number("<I", superblock, 0x14), _number("<I", superblock, 0x20)
    block = 1024 << _number("<I", superblock, 0x18)
    gap = size // block - blocks
    if (blocks - first) % per_group:
        return gap > 0
    # A new last group must hold its own tables and 50 blocks besides, or it is left out (resize2fs and mke2fs).
    inodes = _number("<I", superblock, 0x28) * _number("<H", superblock, 0x58)
    descriptors = 1 + _number("<H", superblock, 0xCE)
    return gap > 2 + -(-inodes // block) + 1 + descriptors + 50


def _xfs_can_grow(superblock: bytes, usable: int, size: Bytes, device: str) -> bool:
    """Compare statvfs (data blocks less the log, fs/xfs/xfs_super.c) with the device's size.

    The superblock on disk may lag behind, but the log's and the groups' sizes never change.
    """
    if len(superblock) < _XFS_SUPERBLOCK or superblock[:4] != b"XFSB":
        raise KernelError("measure", device, "no xfs superblock", errno=errno.EUCLEAN)
    block, per_group = _number(">I", superblock, 4), _number(">I", superblock, 84)
    if not block or not per_group:
        raise KernelError("measure", device, "its xfs superblock is damaged", errno=errno.EUCLEAN)
    log_blocks = _number(">I", superblock, 96) if _number(">Q", superblock, 48) else 0
    blocks = usable + log_blocks
    gap = size // block - blocks
    return gap >= _XFS_SMALLEST_GROUP if blocks % per_group == 0 else gap > 0


def _number(form: str, data: bytes, at: int) -> int:
    return int(struct.unpack_from(form, data, at)[0])
