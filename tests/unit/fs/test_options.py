"""Mount options: what is taken, what is refused, where quotes count."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from csi.errors import InvalidRequestError
from csi.fs import options, syscalls
from csi.fs.options import Options
from csi.model import FsType

LABEL = "system_u:object_r:container_file_t:s0:c1,c2"


@pytest.fixture
def selinux(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(options, "_has_selinux", lambda: True)


def test_no_options_is_no_flags() -> None:
    assert Options.parse(FsType.EXT4, []) == Options()


def test_words_become_flags_and_the_rest_data() -> None:
    parsed = Options.parse(FsType.EXT4, ["noatime,nosuid", "commit=30", "errors=remount-ro"])
    assert parsed.flags == syscalls.MS_NOATIME | syscalls.MS_NOSUID
    assert parsed.data == "commit=30,errors=remount-ro"


def test_of_contradicting_options_the_last_holds() -> None:
    assert not Options.parse(FsType.EXT4, ["ro", "rw"]).read_only
    assert Options.parse(FsType.EXT4, ["noatime", "relatime"]).flags == syscalls.MS_RELATIME
    assert Options.parse(FsType.EXT4, ["commit=5", "commit=9"]).data == "commit=9"


def test_a_read_only_use_stands_above_the_options() -> None:
    assert Options.parse(FsType.EXT4, ["rw"], read_only=True).read_only


def test_xfs_is_always_mounted_nouuid() -> None:
    assert Options.parse(FsType.XFS, []).data == "nouuid"
    assert Options.parse(FsType.XFS, ["nouuid", "inode64"]).data.split(",").count("nouuid") == 1


@pytest.mark.usefixtures("selinux")
@pytest.mark.parametrize("given_as", [f'context="{LABEL}"', f'noatime,context="{LABEL}",nodev'])
def test_a_quoted_label_keeps_its_commas(given_as: str) -> None:
    assert Options.parse(FsType.EXT4, [given_as]).data == f'context="{LABEL}"'


def test_a_label_is_dropped_where_the_kernel_has_no_selinux(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(options, "_has_selinux", lambda: False)
    assert Options.parse(FsType.EXT4, [f'context="{LABEL}"', "noatime"]) == Options(syscalls.MS_NOATIME)


@pytest.mark.usefixtures("selinux")
def test_only_what_holds_for_one_mount_is_left_for_a_bind() -> None:
    parsed = Options.parse(FsType.EXT4, ["ro", "sync", "nodev", f'context="{LABEL}"'])
    assert parsed.per_mount == syscalls.MS_RDONLY | syscalls.MS_NODEV


@pytest.mark.usefixtures("selinux")
@pytest.mark.parametrize(
    "bad",
    [
        "nobarrier",
        "barrier=0",
        "errors=panic",
        "norecovery",
        "logdev=/dev/sda",
        "device=/dev/sda",
        "subvol=/",
        "loop",
        "remount",
        "bind",
        "x-systemd.automount",
        "commit=-1",
        "commit=5\nerrors=panic",
        "commit",
        "noatime=1",
        "acl=1",
        "prjquota=1",
        'context="a:b:c:d,device=/dev/sda',
        'context="a:b:c:d",errors=panic',
        "context=a:b:c:d e",
        'context="a:b"c:d"',
        "\0",
        "é",
        "=",
        '"',
        "x" * 100_000,
    ],
)
@pytest.mark.parametrize("fs_type", FsType)
def test_refuses_what_is_not_on_the_list(fs_type: FsType, bad: str) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        Options.parse(fs_type, [bad])
    assert len(str(caught.value)) < 300


def test_an_option_of_another_file_system_is_refused() -> None:
    assert Options.parse(FsType.BTRFS, ["compress=zstd:3"]).data == "compress=zstd:3"
    with pytest.raises(InvalidRequestError, match="compress=zstd:3"):
        Options.parse(FsType.EXT4, ["compress=zstd:3"])


def test_refuses_too_many() -> None:
    with pytest.raises(InvalidRequestError, match="more than"):
        Options.parse(FsType.EXT4, ["noatime"] * 1000)


@given(st.lists(st.text(st.sampled_from('abcdeinorst=",:.-0 \0\n'), max_size=30), max_size=5), st.sampled_from(FsType))
def test_data_holds_nothing_but_known_options(given_as: list[str], fs_type: FsType) -> None:
    try:
        parsed = Options.parse(fs_type, given_as)
    except InvalidRequestError:
        return
    assert Options.parse(fs_type, [parsed.data]).data == parsed.data
