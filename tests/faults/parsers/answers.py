"""The readers of what programs answer and of what disks hold, each with a program or a disk that says anything."""

import contextlib
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final
from unittest import mock

from csi import process
from csi.dm import metadata
from csi.errors import DriverError
from csi.fs import btrfs, check, mkfs
from csi.lvm import disks, loop
from csi.lvm.runner import Lvm
from csi.model import FsType
from csi.units import GIB
from tests.faults.parsers.texts import Parser

_DEEP: Final = b"[" * 6000


class _Pool:
    """What thin_ls is asked about."""

    metadata_path = "/dev/null"

    @contextmanager
    def metadata_snap(self) -> Iterator[None]:
        yield


def _answered(read: Callable[[], object]) -> Callable[[bytes], None]:
    """Return a reader of whatever a program says, its exit status in the first byte."""

    def parse(data: bytes) -> None:
        text = data[1:].decode(errors="replace")
        said = process.Completed(data[0] % 16 if data else 0, text, text)
        with contextlib.ExitStack() as stack:
            for module in (process, check, metadata, mkfs):
                stack.enter_context(mock.patch.object(module, "run", return_value=said))
            read()

    return parse


def _superblock(read: Callable[..., Any], magic: bytes, at: int) -> Callable[[bytes], None]:
    """Return a reader of a superblock, with the magic number in its place."""

    def parse(data: bytes) -> None:
        read(data[:at] + magic + data[at + len(magic) :])

    return parse


def _btrfs(data: bytes) -> None:
    """Read a superblock whose checksum is right."""
    padded = bytearray(data[:4096].ljust(4096, b"\0"))
    struct.pack_into("<I", padded, 0, btrfs.crc32c(padded[32:]) if len(data) % 2 else 0)
    btrfs._renewed(bytes(padded), "/dev/null")


def _xfs(data: bytes) -> None:
    check._xfs_can_grow(data, 25600, GIB, "/dev/null")


def _ext4(data: bytes) -> None:
    check._ext4_can_grow(data, GIB, "/dev/null")


_LVM: Final = Lvm(["/dev/null"], "thinpool-csi.node-a")
_EXT4: Final = (
    struct.pack("<II12xIIII4xII", 8192, 32768, 0, 2, 2, 32768, 8192, 0).ljust(0x58, b"\0") + b"\0\1" + bytes(934)
)
_XFS: Final = struct.pack(">4sI", b"XFSB", 4096).ljust(512, b"\1")
_LINES: Final = b"\0  1\n  2\n16777215\n"

ANSWERS: Final = {
    "thin-ids": Parser(_answered(lambda: metadata.thin_ids(_Pool())), (DriverError,), [_LINES]),  # type: ignore[arg-type]
    "thin-mappings": Parser(
        _answered(lambda: metadata.mappings(_Pool())),  # type: ignore[arg-type]
        (DriverError,),
        [b"\0  1  16  8\n  2  0  0\n", "\0 \u0661 \u0662 \u0663\x85".encode()],
    ),
    "lvm-said": Parser(
        _answered(_LVM.report), (DriverError,), [b'\0{"report": []}', b"\5  Volume group not found", _DEEP]
    ),
    "losetup": Parser(
        _answered(lambda: loop._attached(Path("/file"), None)),
        (DriverError,),
        [b'\0{"loopdevices": [{"name": "/dev/loop0"}]}', b"\0", _DEEP],
    ),
    "wipefs": Parser(
        _answered(lambda: disks._probe("/dev/null", "/dev/null", None)),
        (DriverError,),
        [b'\0{"signatures": [{"type": "gpt", "usage": "partition-table"}]}', b"\0", _DEEP],
    ),
    "blkid": Parser(
        _answered(lambda: check.probe("/dev/null")),
        (DriverError,),
        [b"\0DEVNAME=/dev/dm-3\nUUID=u\nTYPE=ext4\nUSAGE=filesystem\n", b"\0PTTYPE=gpt\n", b"\2", b"\x08"],
    ),
    "e2fsck": Parser(
        _answered(lambda: check.fsck("/dev/null", FsType.EXT4)), (DriverError,), [b"\0clean", b"\4TYPE=ext4", b"\x08"]
    ),
    "mkfs.btrfs": Parser(
        _answered(lambda: mkfs._btrfs_too_new((5, 4))),
        (DriverError,),
        [b"\0free-space-tree     - x (0x1, compat=4.5, safe=4.9, default=5.15)\n"],
    ),
    "ext4-superblock": Parser(_superblock(_ext4, b"\x53\xef", 0x38), (DriverError,), [_EXT4, bytes(1024), b""]),
    "xfs-superblock": Parser(_superblock(_xfs, b"XFSB", 0), (DriverError,), [_XFS, bytes(512), b""]),
    "btrfs-superblock": Parser(
        _superblock(_btrfs, b"_BHRfS_M", 0x40), (DriverError,), [bytes(4097), bytes(4096), b"\1" * 4097]
    ),
}
"""By name."""
