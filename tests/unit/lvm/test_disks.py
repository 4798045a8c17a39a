"""Which disks are chosen, and why one is refused."""

import dataclasses
from pathlib import Path

import pytest

from csi.errors import DevicesRefusedError
from csi.lvm import disks
from csi.lvm.disks import LVM_MEMBER, Disk, refusal, select
from csi.settings import DeviceSelector, PoolSpec
from csi.units import GIB, MIB, Bytes
from tests.unit.lvm.conftest import Programs

BLANK = Disk(path="/dev/disk/by-id/x", device="/dev/sdb", number="8:16", size=Bytes(10 * GIB))

FIRM = {
    "is read-only": {"read_only": True},
    "is too small: 64MiB, at least 256MiB are needed": {"size": Bytes(64 * MIB)},
    "is mounted at /a, /b": {"mounts": ("/a", "/b"), "signatures": ("ext4",)},
    "is swap space in use": {"swap": True, "signatures": ("swap",)},
    "has partitions (sdb1)": {"partitions": ("sdb1",)},
    "has a partition table (PMBR, gpt)": {"partition_table": "PMBR, gpt"},
    "is a logical volume (LVM-xyz)": {"volume": "LVM-xyz"},
    "belongs to the volume group vg0": {"vg": "vg0", "signatures": (LVM_MEMBER,)},
    "is an LVM physical volume of a group that cannot be read": {"vg": "", "signatures": (LVM_MEMBER,)},
    "is held by dm-0, md0": {"holders": ("dm-0", "md0")},
    "is in use: the kernel says that somebody has claimed it": {"busy": True},
}


@pytest.mark.parametrize("force", [False, True])
def test_a_blank_disk_is_not_refused(*, force: bool) -> None:
    assert refusal(BLANK, force=force) is None


@pytest.mark.parametrize("reason", FIRM)
@pytest.mark.parametrize("force", [False, True])
def test_what_is_in_use_is_refused_with_or_without_force(reason: str, *, force: bool) -> None:
    disk = dataclasses.replace(BLANK, pv_uuid="ours", **FIRM[reason])  # type: ignore[arg-type]
    assert (refusal(disk, force=force, own_pvs={"ours"}) or "").startswith(reason)


def test_force_overrides_signatures() -> None:
    disk = dataclasses.replace(BLANK, signatures=("ext4", "xfs"))
    assert refusal(disk, force=False) == ("holds data (ext4, xfs): clear it with 'wipefs -a /dev/sdb', or set force")
    assert refusal(disk, force=True) is None


def test_only_a_pv_of_our_own_interrupted_creation_is_taken_again() -> None:
    loose = dataclasses.replace(BLANK, signatures=(LVM_MEMBER,), pv_uuid="mine")
    assert refusal(loose, force=False, own_pvs={"mine"}) is None
    assert refusal(loose, force=False, own_pvs={"other"}) is not None
    assert refusal(dataclasses.replace(loose, signatures=("ext4", LVM_MEMBER)), force=False, own_pvs={"mine"})


def _sysfs(root: Path) -> Path:
    """Make what select() reads of four disks and two other devices; sizes in GiB."""
    for name, size, rotational, model in (
        ("sda", 100, "1", "Spinner 9000"),
        ("nvme0n1", 200, "0", "Fast SSD"),
        ("nvme1n1", 400, "0", "Fast SSD"),
        ("cciss!c0d0", 50, "1", ""),
        ("loop0", 100, "0", ""),
        ("dm-3", 100, "0", ""),
    ):
        home = root / "block" / name
        (home / "queue").mkdir(parents=True)
        (home / "size").write_text(f"{size * GIB // 512}\n")
        (home / "queue/rotational").write_text(f"{rotational}\n")
        if model:
            (home / "device").mkdir()
            (home / "device/model").write_text(f"{model}   \n")
    return root


@pytest.mark.parametrize(
    ("selector", "expected"),
    [
        (DeviceSelector(rotational=False), ["/dev/nvme0n1", "/dev/nvme1n1"]),
        (DeviceSelector(rotational=True), ["/dev/cciss/c0d0", "/dev/sda"]),
        (DeviceSelector(min_size=Bytes(200 * GIB)), ["/dev/nvme0n1", "/dev/nvme1n1"]),
        (DeviceSelector(max_size=Bytes(100 * GIB)), ["/dev/cciss/c0d0", "/dev/sda"]),
        (DeviceSelector(model="Fast*", max_size=Bytes(300 * GIB)), ["/dev/nvme0n1"]),
        (DeviceSelector(model="fast*"), []),
    ],
)
def test_a_selection_yields_the_disks_for_which_every_condition_holds(
    selector: DeviceSelector, expected: list[str], tmp_path: Path
) -> None:
    assert select(PoolSpec("fast", selector=selector), sysfs=_sysfs(tmp_path)) == expected


def test_a_plain_path_is_kept_and_a_glob_yields_block_devices_only(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    missing = f"{tmp_path}/missing"
    assert select(PoolSpec("fast", devices=(missing, f"{tmp_path}/f*", missing))) == [missing]


@pytest.mark.parametrize("name", [b"a\r", "\u2028".encode(), b"\xff", b"\\040"])
def test_a_mount_is_found_whatever_the_names_of_mount_points(name: bytes, tmp_path: Path) -> None:
    (tmp_path / "self").mkdir()
    lines = (b"93 22 8:32 / /%s rw - ext4 /dev/sdc rw\n" % name, b"94 22 8:16 / /%s rw - ext4 /dev/sdb rw\n" % name)
    (tmp_path / "self/mountinfo").write_bytes(b"".join(lines))
    assert len(disks._mounts(BLANK.number, tmp_path)) == 1


def test_signatures_that_are_told_in_nonsense_refuse_the_disk(programs: Programs) -> None:
    programs.add("wipefs")
    programs.answer("wipefs", "[" * 6000)
    with pytest.raises(DevicesRefusedError, match="cannot be read"):
        disks._probe("/dev/sdb", "/dev/sdb", programs.path)
