"""The tools and options that a file system is made with."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from csi.errors import CommandError, InvalidRequestError, StateError
from csi.fs import mkfs
from csi.fs.check import Content
from csi.model import FsType
from csi.process import Completed

LIST = """Filesystem features available:
mixed-bg            - mixed data and metadata block groups (compat=2.6.37, safe=2.6.37)
no-holes            - no explicit hole extents for files (compat=3.14, safe=4.0, default=5.15)
free-space-tree     - free space tree (compat=4.5, safe=4.9, default=5.15)
block-group-tree    - block group tree (compat=6.1, safe=6.1, default=6.19)
raid-stripe-tree    - raid stripe tree (compat=6.7)
"""

Argvs = list[list[str]]


@pytest.fixture(autouse=True)
def _nothing_remembered() -> None:
    mkfs.command.cache_clear()


@pytest.fixture
def ran(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Argvs:
    argvs: Argvs = []

    def run(argv: list[str], **_: object) -> Completed:
        argvs.append(argv)
        return Completed(0, "", LIST if argv[-1] == "list-all" else "")

    monkeypatch.setattr(mkfs, "run", run)
    monkeypatch.setattr(mkfs, "probe", lambda _: Content(None, blank=True, name="nothing"))
    for name in ("dax_x86_64", "lts_4.19", "lts_5.4", "lts_5.15", "lts_6.1"):
        (tmp_path / f"{name}.conf").write_text(
            f"# {name}\n\n[metadata]\nnrext64=0\nbigtime=1\nuuid={name}\n\n[inode]\nsparse=1\n[naming]\nparent=0\n"
        )
    monkeypatch.setattr(mkfs, "_XFS_PROFILES", str(tmp_path))
    return argvs


@pytest.mark.parametrize(
    ("profile", "chosen"), [("4.19", "4.19"), ("5.3", "4.19"), ("5.14", "5.4"), ("6.1", "6.1"), ("7.0", "6.1")]
)
def test_xfs_takes_the_newest_profile_that_the_kernel_knows(ran: Argvs, profile: str, chosen: str) -> None:
    mkfs.make("/dev/dm-3", FsType.XFS, profile=profile)
    (argv,) = ran
    assert argv[:3] == ["mkfs.xfs", "-q", "-K"]
    assert argv[-1] == "/dev/dm-3"
    settings = dict(zip(argv[3:-1:2], argv[4:-1:2], strict=True))
    assert settings == {"-m": f"bigtime=1,uuid=lts_{chosen}", "-i": "nrext64=0,sparse=1", "-n": "parent=0"}


def test_a_profile_of_xfs_that_cannot_be_read_is_said(ran: Argvs, tmp_path: Path) -> None:
    (tmp_path / "lts_6.1.conf").write_text("crc=1")
    with pytest.raises(CommandError, match=r"lts_6\.1\.conf"):
        mkfs.make("/dev/dm-3", FsType.XFS, profile="6.1")
    assert ran == []


def test_xfs_for_a_kernel_older_than_all_profiles_is_refused(ran: Argvs) -> None:
    with pytest.raises(InvalidRequestError, match=r"4\.18.*oldest profile.*4\.19"):
        mkfs.make("/dev/dm-3", FsType.XFS, profile="4.18")
    assert ran == []


@pytest.mark.parametrize(
    ("profile", "without"),
    [("4.4", "^free-space-tree,^block-group-tree"), ("6.0", "^block-group-tree"), ("6.1", None)],
)
def test_btrfs_leaves_out_what_is_on_by_default_and_too_new(ran: Argvs, profile: str, without: str | None) -> None:
    mkfs.make("/dev/dm-3", FsType.BTRFS, profile=profile)
    assert ran[-1] == ["mkfs.btrfs", "-q", "-K", *(["-O", without] if without else []), "/dev/dm-3"]


@pytest.mark.parametrize("profile", ["4.19", "6.1", "auto"])
def test_ext4_has_the_same_features_for_all_kernels(ran: Argvs, profile: str) -> None:
    mkfs.make("/dev/dm-3", FsType.EXT4, profile=profile)
    (argv,) = ran
    features = argv[argv.index("-O") + 1].split(",")
    assert features[0] == "none"
    assert not {"orphan_file", "metadata_csum_seed"} & set(features)


@pytest.mark.parametrize("fs_type", FsType)
def test_nothing_is_discarded_or_forced(ran: Argvs, fs_type: FsType) -> None:
    mkfs.make("/dev/dm-3", fs_type)
    assert not {"-f", "-F"} & set(ran[-1])
    assert "-K" in ran[-1] or "nodiscard" in ran[-1][ran[-1].index("-E") + 1]


@pytest.mark.parametrize("fs_type", FsType)
def test_a_device_that_holds_anything_is_left_alone(
    ran: Argvs, monkeypatch: pytest.MonkeyPatch, fs_type: FsType
) -> None:
    monkeypatch.setattr(mkfs, "probe", lambda _: Content(None, blank=False, name="unknown data"))
    with pytest.raises(StateError, match="unknown data"):
        mkfs.make("/dev/dm-3", fs_type)
    assert not any("/dev/dm-3" in argv for argv in ran)


@pytest.mark.parametrize("profile", ["", "6", "6.1.2", "v6.1", "6.1\n", "auto ", "-1.0", "6." + "1" * 1000, "../x"])
def test_a_malformed_profile_is_refused(profile: str) -> None:
    with pytest.raises(InvalidRequestError):
        mkfs.kernel_of(profile)


def test_auto_is_the_running_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.uname", lambda: SimpleNamespace(release="5.14.0-427.el9.x86_64"))
    mkfs.kernel_of.cache_clear()
    try:
        assert mkfs.kernel_of("auto") == (5, 14)
    finally:
        mkfs.kernel_of.cache_clear()
