"""A UUID of its own for a copy of a btrfs, by one write of its superblock.

The kernel finds a btrfs by its UUID (``fsid``), and refuses a second one with the same, or on older kernels answers
with the first. Since Linux 5.0 the UUID in the superblock may differ from the one that all metadata blocks carry: the
feature ``METADATA_UUID`` keeps the latter in a field of its own (fs/btrfs/btrfs_tree.h, ``struct
btrfs_super_block``). ``btrfstune -m`` makes use of it, but in transactions of its own, after which the log of a file
system that was not unmounted cleanly no longer fits, and the kernel refuses it with EIO. Only the first superblock
counts at mount; the kernel writes the copies anew with its first commit.
"""

import errno
import functools
import os
import struct
import time
import uuid
from typing import Final

from csi.errors import DataLossError, KernelError, StateError
from csi.fs.busy import DEVICE_PATIENCE, until_free

_SUPERBLOCK: Final = 65536
_LENGTH: Final = 4096
_CHECKSUMMED: Final = 32
_FSID: Final = 0x20
_FLAGS: Final = 0x38
_MAGIC: Final = 0x40
_INCOMPATIBLE: Final = 0xBC
_CHECKSUM_TYPE: Final = 0xC4
_METADATA_UUID: Final = 0x23B
_UUID_LENGTH: Final = 16

_HAS_METADATA_UUID: Final = 1 << 10
# A change of the UUID by btrfstune that was cut short, in its older and its newer form.
_BEING_CHANGED: Final = 1 << 35 | 1 << 36


def renew_uuid(device: str) -> None:
    """Give the btrfs on ``device``, which must not be mounted, a new random UUID. The write is durable, and one block.

    Doing it again does no harm. Raise StateError if the device stays in use, if the superblock is not one that can be
    changed so, DataLossError if it is damaged, KernelError if the device does not answer.
    """
    try:
        # O_EXCL on a block device: EBUSY while it is mounted or held (open(2)).
        flags = os.O_RDWR | os.O_EXCL | os.O_CLOEXEC
        fd = until_free(lambda: os.open(device, flags), time.monotonic() + DEVICE_PATIENCE)
        try:
            renewed = _renewed(os.pread(fd, _LENGTH, _SUPERBLOCK), device)
            os.pwrite(fd, renewed, _SUPERBLOCK)
            os.fsync(fd)
        finally:
            os.close(fd)
    except OSError as error:
        number = error.errno or 0
        if number == errno.EBUSY:
            raise StateError("renew UUID of", device, "it is in use", errno=number, way_out="unmount it") from error
        raise KernelError("renew UUID of", device, "the device does not answer", errno=number) from error


def _renewed(old: bytes, device: str) -> bytes:
    if len(old) < _LENGTH or old[_MAGIC : _MAGIC + 8] != b"_BHRfS_M":
        raise DataLossError("renew UUID of", device, "there is no btrfs superblock", way_out="nothing was written")
    if struct.unpack_from("<H", old, _CHECKSUM_TYPE)[0] != 0:
        raise StateError("renew UUID of", device, "its checksums are not crc32c", way_out="run 'btrfstune -m' by hand")
    if struct.unpack_from("<Q", old, _FLAGS)[0] & _BEING_CHANGED:
        raise StateError("renew UUID of", device, "btrfstune was cut short on it", way_out="run it again by hand")
    if struct.unpack_from("<I", old)[0] != crc32c(old[_CHECKSUMMED:]):
        raise DataLossError(
            "renew UUID of", device, "the superblock's checksum is wrong", way_out="nothing was written"
        )
    new = bytearray(old)
    features = struct.unpack_from("<Q", old, _INCOMPATIBLE)[0]
    if not features & _HAS_METADATA_UUID:
        new[_METADATA_UUID : _METADATA_UUID + _UUID_LENGTH] = old[_FSID : _FSID + _UUID_LENGTH]
        struct.pack_into("<Q", new, _INCOMPATIBLE, features | _HAS_METADATA_UUID)
    new[_FSID : _FSID + _UUID_LENGTH] = uuid.uuid4().bytes
    struct.pack_into("<I", new, 0, crc32c(new[_CHECKSUMMED:]))
    return bytes(new)


def crc32c(data: bytes | bytearray) -> int:
    """Return the CRC-32C of ``data`` (RFC 3720, appendix B.4)."""
    table = _crc_table()
    value = 0xFFFFFFFF
    for byte in data:
        value = table[(value ^ byte) & 0xFF] ^ value >> 8
    return value ^ 0xFFFFFFFF


@functools.cache
def _crc_table() -> tuple[int, ...]:
    table = []
    for value in range(256):
        for _ in range(8):
            value = value >> 1 ^ (0x82F63B78 if value & 1 else 0)  # noqa: PLW2901 - shifted to its place in the table
        table.append(value)
    return tuple(table)
