"""What is on a device, and whether it can grow, with blkid and e2fsck answering as they do."""

import struct
from pathlib import Path

import pytest

from csi.errors import CommandError, DataLossError, KernelError
from csi.fs import btrfs, check
from csi.fs.check import Content
from csi.model import FsType
from csi.process import Completed
from csi.units import GIB, MIB, Bytes

EXT4 = Content(FsType.EXT4, blank=False, name="ext4")
NOTHING = Content(None, blank=False, name="unknown data")


@pytest.fixture
def device(tmp_path: Path) -> str:
    path = tmp_path / "device"
    with path.open("xb") as file:
        file.truncate(4 * MIB)
    return str(path)


def answer(monkeypatch: pytest.MonkeyPatch, status: int, stdout: str = "") -> None:
    monkeypatch.setattr(check, "run", lambda *_, **__: Completed(status, stdout, ""))


def test_zeros_are_blank(device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    answer(monkeypatch, 2)
    assert check.probe(device) == Content(None, blank=True, name="nothing")


@pytest.mark.parametrize("at", [0, 511, 4096, 65536 + 64, MIB - 1])
def test_a_single_byte_in_the_first_mib_is_not_blank(device: str, monkeypatch: pytest.MonkeyPatch, at: int) -> None:
    answer(monkeypatch, 2)
    with open(device, "r+b") as file:
        file.seek(at)
        file.write(b"\1")
    assert check.probe(device) == NOTHING


def test_a_device_that_cannot_be_read_is_never_blank(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    answer(monkeypatch, 2)
    with pytest.raises(KernelError):
        check.probe(str(tmp_path / "missing"))


@pytest.mark.parametrize(
    ("status", "said", "content"),
    [
        (
            0,
            "DEVNAME=/dev/x\nUUID=ab-c\nTYPE=xfs\nUSAGE=filesystem\n",
            Content(FsType.XFS, blank=False, name="xfs", uuid="ab-c"),
        ),
        (0, "DEVNAME=/dev/x\nTYPE=ext3\n", Content(None, blank=False, name="ext3")),
        (0, "DEVNAME=/dev/x\nPTTYPE=gpt\n", Content(None, blank=False, name="a gpt partition table")),
        (0, "DEVNAME=/dev/x\nUSAGE=raid\n", Content(None, blank=False, name="raid")),
        (8, "", Content(None, blank=False, name="several signatures that contradict each other")),
    ],
)
def test_reads_what_blkid_says(
    device: str, monkeypatch: pytest.MonkeyPatch, status: int, said: str, content: Content
) -> None:
    answer(monkeypatch, status, said)
    assert check.probe(device) == content


@pytest.mark.parametrize("status", [0, 1, 2, 3])
def test_a_check_that_left_no_error_is_good(device: str, monkeypatch: pytest.MonkeyPatch, status: int) -> None:
    answer(monkeypatch, status)
    check.fsck(device, FsType.EXT4)


@pytest.mark.parametrize(
    ("at", "form", "value"),
    [
        (0x3A, "<H", 0),  # mounted, or never left in good order
        (0x3A, "<H", 3),  # an error is noted
        (0x60, "<I", 0x2C6),  # the log is to be replayed
        (0xE8, "<I", 12),  # an inode is to be freed
        (0x194, "<I", 1),  # an error was noted once
        (0x38, "<H", 0),
    ],
)
def test_an_ext4_is_looked_at_unless_it_was_left_in_good_order(
    device: str, monkeypatch: pytest.MonkeyPatch, at: int, form: str, value: int
) -> None:
    ran: list[list[str]] = []

    def run(argv: list[str], **_: object) -> Completed:
        ran.append(argv)
        return Completed(0, "", "")

    monkeypatch.setattr(check, "run", run)
    data = bytearray(ext4_superblock(1 << 18))
    for field, kind, usual in ((0x3A, "<H", 1), (0x60, "<I", 0x2C2)):
        struct.pack_into(kind, data, field, usual)
    _write(device, bytes(data))
    check.fsck(device, FsType.EXT4)
    assert ran == []
    struct.pack_into(form, data, at, value)
    _write(device, bytes(data))
    check.fsck(device, FsType.EXT4)
    assert ran == [["e2fsck", "-p", device]]


def _write(device: str, superblock: bytes) -> None:
    with open(device, "r+b") as file:
        file.seek(1024)
        file.write(superblock)


@pytest.mark.parametrize(("fs_type", "at"), [(FsType.EXT4, 1080), (FsType.XFS, 0), (FsType.BTRFS, 65600)])
def test_a_file_system_is_known_by_its_own_mark(device: str, fs_type: FsType, at: int) -> None:
    assert not check.begins_as(device, fs_type)
    with open(device, "r+b") as file:
        file.seek(at)
        file.write({FsType.EXT4: b"\x53\xef", FsType.XFS: b"XFSB", FsType.BTRFS: b"_BHRfS_M"}[fs_type])
    assert [each for each in FsType if check.begins_as(device, each)] == [fs_type]


@pytest.mark.parametrize(
    ("status", "found", "error"),
    [(4, EXT4, DataLossError), (12, EXT4, DataLossError), (8, NOTHING, DataLossError), (8, EXT4, CommandError)],
)
def test_errors_left_and_a_lost_superblock_are_data_loss(
    device: str, monkeypatch: pytest.MonkeyPatch, status: int, found: Content, error: type[Exception]
) -> None:
    answer(monkeypatch, status, "Bad magic number")
    monkeypatch.setattr(check, "probe", lambda _: found)
    with pytest.raises(error, match="Bad magic number"):
        check.fsck(device, FsType.EXT4)


@pytest.mark.parametrize("fs_type", [FsType.XFS, FsType.BTRFS])
def test_xfs_and_btrfs_check_themselves_at_mount(monkeypatch: pytest.MonkeyPatch, fs_type: FsType) -> None:
    monkeypatch.setattr(check, "run", lambda *_, **__: pytest.fail("ran a program"))
    check.fsck("/dev/x", fs_type)


def ext4_superblock(blocks: int) -> bytes:
    data = bytearray(1024)
    for at, form, value in (
        (0x00, "<I", 8192 * -(-blocks // 32768)),  # inodes
        (0x04, "<I", blocks & 0xFFFFFFFF),
        (0x18, "<I", 2),  # 4-KiB blocks
        (0x20, "<I", 32768),  # blocks in a group
        (0x28, "<I", 8192),  # inodes in a group
        (0x38, "<H", 0xEF53),
        (0x58, "<H", 256),  # bytes in an inode
        (0xCE, "<H", 127),  # reserved descriptors
        (0x150, "<I", blocks >> 32),
    ):
        struct.pack_into(form, data, at, value)
    return bytes(data)


@pytest.mark.parametrize(
    ("blocks", "size_in_blocks", "can"),
    [
        (32768, 32768, False),
        (32768, 32768 + 600, False),  # too little for a group's tables
        (32768, 32768 + 1000, True),
        (32769, 32770, True),
        (33000, 32999, False),
        (1 << 33, (1 << 33) + 32768, True),
    ],
)
def test_ext4_grows_by_what_resize2fs_would_add(blocks: int, size_in_blocks: int, *, can: bool) -> None:
    assert check._ext4_can_grow(ext4_superblock(blocks), Bytes(size_in_blocks * 4096), "x") is can


@pytest.mark.parametrize(
    ("usable", "size_in_blocks", "can"),
    [(76800 - 16384, 76800, False), (76800 - 16384, 76863, False), (76800 - 16384, 76864, True), (50000, 66385, True)],
)
def test_xfs_counts_its_log_and_no_group_too_small(usable: int, size_in_blocks: int, *, can: bool) -> None:
    data = bytearray(512)
    data[:4] = b"XFSB"
    for at, form, value in ((4, ">I", 4096), (48, ">Q", 1 << 20), (84, ">I", 19200), (96, ">I", 16384)):
        struct.pack_into(form, data, at, value)
    assert check._xfs_can_grow(bytes(data), usable, Bytes(size_in_blocks * 4096), "x") is can


def test_a_superblock_of_something_else_is_not_measured() -> None:
    with pytest.raises(KernelError):
        check._ext4_can_grow(bytes(1024), Bytes(4096), "x")
    with pytest.raises(KernelError):
        check._xfs_can_grow(bytes(512), 1, Bytes(4096), "x")


@pytest.mark.parametrize(("at", "value"), [(0x20, 0), (0x18, 7), (0x18, 0xFFFFFFFF)])
def test_an_ext4_superblock_with_figures_that_cannot_be_is_an_error(at: int, value: int) -> None:
    data = bytearray(ext4_superblock(32768))
    struct.pack_into("<I", data, at, value)
    with pytest.raises(KernelError, match=r"damaged.*EUCLEAN"):
        check._ext4_can_grow(bytes(data), Bytes(GIB), "x")


@pytest.mark.parametrize("damage", [b"XFSB".ljust(512, b"\0"), b"XFSB\0\0\x10\0".ljust(512, b"\0"), b"XFSB"])
def test_an_xfs_superblock_with_figures_that_cannot_be_is_an_error(damage: bytes) -> None:
    with pytest.raises(KernelError, match="EUCLEAN"):
        check._xfs_can_grow(damage, 1, Bytes(GIB), "x")


def test_only_btrfs_gets_a_new_uuid(monkeypatch: pytest.MonkeyPatch) -> None:
    renewed: list[str] = []
    monkeypatch.setattr(btrfs, "renew_uuid", renewed.append)
    for fs_type in FsType:
        check.renew_uuid(f"/dev/{fs_type}", fs_type)
    assert renewed == ["/dev/btrfs"]
