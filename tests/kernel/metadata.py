"""A pool's metadata on its disk, below LVM and the kernel: to be read, marked and damaged while the pool is inactive.

The forms are those of drivers/md/dm-thin-metadata.c, persistent-data/dm-btree-internal.h and dm-space-map-common.h.
"""

import hashlib
import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass

from csi.dm.ioctl import Control
from csi.units import SECTOR
from tests.kernel.conftest import run

BLOCK = 4096
_NEEDS_CHECK = 1
_CHECKSUM_XOR = 160774
"""SUPERBLOCK_CSUM_XOR; the checksum is dm_bm_checksum's."""
_DATA_BITMAPS = 80
_ROOTS = struct.Struct("<QQ")
_ROOTS_AT = 320
_INTERNAL = 1


@dataclass(frozen=True)
class Metadata:
    """The metadata of one pool: its disk, and where it begins and ends there."""

    disk: str
    offset: int
    size: int

    @classmethod
    def of(cls, control: Control, pool_name: str) -> "Metadata":
        """Find that of an active pool, which lies in one piece."""
        [line] = control.table(f"{pool_name}_tmeta")
        device, start = line.params.split()
        disk = os.path.basename(os.path.realpath(f"/sys/dev/block/{device}"))
        return cls(f"/dev/{disk}", int(start) * SECTOR, line.length * SECTOR)

    def digest(self) -> str:
        """Return the checksum of all of it."""
        with open(self.disk, "rb") as stream:
            stream.seek(self.offset)
            return hashlib.sha256(stream.read(self.size)).hexdigest()

    def read(self, block: int) -> bytes:
        """Return one block."""
        with open(self.disk, "rb") as stream:
            stream.seek(self.offset + block * BLOCK)
            return stream.read(BLOCK)

    def write(self, block: int, content: bytes) -> None:
        """Replace one block, past the disk's cache."""
        with open(self.disk, "r+b") as stream:
            stream.seek(self.offset + block * BLOCK)
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())

    def damage(self, *blocks: int) -> None:
        """Overwrite blocks with what no checksum fits."""
        for block in blocks:
            self.write(block, b"\xff" * BLOCK)

    def need_check(self) -> None:
        """Set the kernel's mark, as it does when it could not write metadata."""
        block = bytearray(self.read(0))
        struct.pack_into("<I", block, 4, _NEEDS_CHECK)
        struct.pack_into("<I", block, 0, _crc32c(bytes(block[4:])) ^ _CHECKSUM_XOR)
        self.write(0, bytes(block))

    @property
    def needs_check(self) -> bool:
        """Whether the mark is set."""
        return bool(struct.unpack_from("<I", self.read(0), 4)[0] & _NEEDS_CHECK)

    @property
    def data_bitmaps(self) -> int:
        """The block of the root of the data's space map."""
        return int(struct.unpack_from("<Q", self.read(0), _DATA_BITMAPS)[0])

    @property
    def mapping_root(self) -> int:
        """The block of the root of the devices' trees."""
        return int(_ROOTS.unpack_from(self.read(0), _ROOTS_AT)[0])

    @property
    def details_root(self) -> int:
        """The block of the root of the devices' details."""
        return int(_ROOTS.unpack_from(self.read(0), _ROOTS_AT)[1])

    def leaves(self, thin: int) -> list[int]:
        """Return the blocks with the mappings of one device; its tree has one level above them."""
        [root] = [block for key, block in self._entries(self.mapping_root) if key == thin]
        return [block for _, block in self._entries(root, internal=True)]

    def _entries(self, node: int, *, internal: bool = False) -> Iterator[tuple[int, int]]:
        block = self.read(node)
        flags, _, count, most = struct.unpack_from("<IQII", block, 4)
        assert not internal or flags & _INTERNAL, "the tree has no level above its leaves"
        for index in range(count):
            key, value = (struct.unpack_from("<Q", block, at + 8 * index)[0] for at in (32, 32 + 8 * most))
            yield key, value


def fail_writes(device: str) -> None:
    """Let every write to a linear device of device-mapper fail; ``device`` is its ``major:minor``."""
    run("modprobe", "dm-flakey")
    major, minor = device.split(":")
    select = ("--major", major, "--minor", minor)
    start, size, _, below, offset = run("dmsetup", "table", *select).split()
    run("dmsetup", "load", *select, "--table", f"{start} {size} flakey {below} {offset} 0 1 1 error_writes")
    run("dmsetup", "suspend", "--nolockfs", "--noflush", *select)
    run("dmsetup", "resume", *select)


def _crc32c(data: bytes) -> int:
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = (crc >> 1) ^ (0x82F63B78 if crc & 1 else 0)
    return crc
