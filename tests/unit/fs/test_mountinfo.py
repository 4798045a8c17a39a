"""Lines of mountinfo as values."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from csi.errors import KernelError
from csi.fs import mountinfo
from csi.fs.mountinfo import Mount

LINE = r"36 35 98:0 /mnt1 /mnt\0402 rw,noatime shared:1 master:2 - ext3 /dev/root rw,errors=continue"

names = st.text(st.characters(exclude_characters="\0", codec="utf-8"), min_size=1)
words = st.text("abcdefghijklmnopqrstuvwxyz0123456789=", min_size=1, max_size=12)


def escaped(text: str) -> str:
    return "".join(f"\\{ord(each):03o}" if each in " \t\n\\" else each for each in text)


def test_reads_a_line_with_optional_fields_and_escapes() -> None:
    assert mountinfo.parse_line(LINE) == Mount(
        id=36,
        parent=35,
        device=(98, 0),
        root="/mnt1",
        mount_point="/mnt 2",
        options=("rw", "noatime"),
        fs_type="ext3",
        source="/dev/root",
        super_options=("rw", "errors=continue"),
    )


@given(
    number=st.integers(0, 1 << 31),
    point=names,
    source=names,
    options=st.lists(words, min_size=1, max_size=4),
    tags=st.lists(words, max_size=3),
)
def test_reads_back_what_the_kernel_would_write(
    number: int, point: str, source: str, options: list[str], tags: list[str]
) -> None:
    fields = [str(number), "1", "8:1", "/", escaped(point), ",".join(options), *tags, "-", "xfs", escaped(source), "rw"]
    mount = mountinfo.parse_line(" ".join(fields))
    assert (mount.id, mount.mount_point, mount.source, mount.options) == (number, point, source, tuple(options))


@given(st.text(max_size=200))
def test_anything_else_is_a_value_error_and_nothing_worse(line: str) -> None:
    try:
        mountinfo.parse_line(line)
    except ValueError as error:
        assert repr(line) in str(error)  # noqa: PT017 - most lines fail, a few may be read


@pytest.mark.parametrize(
    ("options", "super_options", "read_only"), [("rw", "rw", False), ("ro", "rw", True), ("rw", "ro", True)]
)
def test_a_mount_is_read_only_by_itself_or_by_its_file_system(
    options: str, super_options: str, *, read_only: bool
) -> None:
    mount = mountinfo.parse_line(f"1 0 8:1 / /mnt {options} - ext4 /dev/sda1 {super_options}")
    assert mount.read_only is read_only


def test_lists_the_mounts_of_this_process() -> None:
    assert any(mount.mount_point == "/proc" and mount.fs_type == "proc" for mount in mountinfo.mounts())


def test_a_path_that_is_no_block_device_has_no_mounts() -> None:
    assert mountinfo.of_device("/dev/null") == []
    assert mountinfo.of_device("/does/not/exist") == []


_TABLE = (
    "1 0 0:5 /dm-3 /pods/a rw - devtmpfs udev rw\n"
    "2 0 0:5 /dm-31 /pods/b rw - devtmpfs udev rw\n"
    "3 0 254:3 / /pods/c rw - ext4 /dev/dm-3 rw\n"
    "4 0 254:31 / /pods/d rw - ext4 /dev/dm-31 rw\n"
    "5 0 0:44 / /pods/e rw - btrfs /dev/mapper/three rw,subvol=/\n"
    "6 0 0:45 / /pods/f rw - btrfs /dev/dm-31 rw,subvol=/\n"
    "7 0 254:3 /sub /pods/g rw shared:1 - ext4 /dev/dm-3 rw\n"
    "8 0 0:5 / /dev rw - devtmpfs udev rw\n"
)


@pytest.fixture
def table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Put a table of mounts in the place of this process's own."""
    path = tmp_path / "mountinfo"
    path.write_text(_TABLE)
    monkeypatch.setattr(mountinfo, "_PATH", str(path))
    numbers = {"/dev/dm-3": (254, 3), "/dev/mapper/three": (254, 3), "/dev/dm-31": (254, 31)}
    monkeypatch.setattr(mountinfo, "_number", numbers.get)
    return path


@pytest.mark.usefixtures("table")
def test_finds_where_a_device_and_its_node_are_mounted() -> None:
    assert [mount.mount_point for mount in mountinfo.of_node("/dev/dm-3")] == ["/pods/a"]
    assert [mount.mount_point for mount in mountinfo.of_device("/dev/dm-3")] == ["/pods/c", "/pods/e", "/pods/g"]
    assert mountinfo.users("/dev/dm-3") == [*mountinfo.of_device("/dev/dm-3"), *mountinfo.of_node("/dev/dm-3")]
    assert len(mountinfo.mounts()) == len(_TABLE.splitlines())


def test_a_line_that_is_none_is_told_of(table: Path) -> None:
    table.write_text("1 0 254:3 / /mnt rw ext4 /dev/dm-3 rw\n")
    with pytest.raises(KernelError, match="not a line of mountinfo"):
        mountinfo.of_device("/dev/dm-3")


@given(point=names)
def test_only_a_line_feed_ends_a_line(point: str) -> None:
    one = f"93 22 254:3 / /{escaped(point)} rw,relatime - ext4 /dev/dm-3 rw"
    assert [mount.mount_point for mount in mountinfo.parse(f"{one}\n{LINE}\n")] == [f"/{point}", "/mnt 2"]
