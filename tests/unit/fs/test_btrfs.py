"""What is written when a btrfs gets a UUID of its own."""

import os
import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from csi.errors import DataLossError, KernelError, StateError
from csi.fs import btrfs

FSID, METADATA = b"F" * 16, b"M" * 16


def superblock(*, features: int = 0, flags: int = 0, checksum_type: int = 0) -> bytes:
    data = bytearray(4096)
    data[0x20:0x30] = FSID
    struct.pack_into("<Q", data, 0x38, flags)
    data[0x40:0x48] = b"_BHRfS_M"
    struct.pack_into("<QH", data, 0xBC, features, checksum_type)
    if features & 1 << 10:
        data[0x23B:0x24B] = METADATA
    struct.pack_into("<I", data, 0, btrfs.crc32c(data[32:]))
    return bytes(data)


@pytest.fixture
def device(tmp_path: Path) -> str:
    path = tmp_path / "device"
    path.write_bytes(os.urandom(65536) + superblock() + os.urandom(65536))
    return str(path)


def test_the_checksum_is_the_published_one() -> None:
    assert btrfs.crc32c(b"123456789") == 0xE3069283


@given(st.integers(0, (1 << 64) - 1))
def test_keeps_the_uuid_of_the_metadata_and_changes_nothing_else(features: int) -> None:
    old = superblock(features=features)
    new = btrfs._renewed(old, "x")
    assert new[0x20:0x30] not in (FSID, METADATA)
    assert new[0x23B:0x24B] == (METADATA if features & 1 << 10 else FSID)
    assert struct.unpack_from("<Q", new, 0xBC)[0] == features | 1 << 10
    assert struct.unpack_from("<I", new)[0] == btrfs.crc32c(new[32:])
    changed = {at for at in range(4096) if old[at] != new[at]}
    assert changed <= {*range(4), *range(0x20, 0x30), *range(0xBC, 0xC4), *range(0x23B, 0x24B)}


def test_writes_the_superblock_alone(device: str) -> None:
    before = Path(device).read_bytes()
    btrfs.renew_uuid(device)
    after = Path(device).read_bytes()
    assert after[65536:69632] != before[65536:69632]
    assert (after[:65536], after[69632:]) == (before[:65536], before[69632:])


@pytest.mark.parametrize(
    ("data", "error"),
    [
        (bytes(4096), DataLossError),
        (b"", DataLossError),
        (b"\xff" * 32 + superblock()[32:], DataLossError),
        (superblock(checksum_type=1), StateError),
        (superblock(flags=1 << 35), StateError),
        (superblock(flags=1 << 36), StateError),
    ],
)
def test_what_cannot_be_changed_is_left_alone(device: str, data: bytes, error: type[Exception]) -> None:
    Path(device).write_bytes(bytes(65536) + data)
    with pytest.raises(error):
        btrfs.renew_uuid(device)
    assert Path(device).read_bytes() == bytes(65536) + data


def test_a_missing_device_is_an_error_of_the_kernel(tmp_path: Path) -> None:
    with pytest.raises(KernelError, match="ENOENT"):
        btrfs.renew_uuid(str(tmp_path / "missing"))
