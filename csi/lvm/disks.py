"""Disks: what they are, and why one may not be taken. Nothing here writes to a disk."""

import errno
import fnmatch
import glob
import json
import os
import re
import stat
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from csi import process
from csi.errors import CommandError, DevicesRefusedError
from csi.lvm.names import TAG_POOL
from csi.lvm.runner import Lvm
from csi.settings import DeviceSelector, PoolSpec
from csi.units import MIB, SECTOR, Bytes, format_size

MINIMUM: Final = Bytes(256 * MIB)
"""A smaller disk holds no pool worth the name; it is rather a card reader or a firmware area."""

LVM_MEMBER: Final = "LVM2_member"

_PROBE_DEADLINE: Final = 30.0
_GLOB: Final = re.compile(r"[*?\[]")
# Never chosen by their properties: memory, optical drives, and what others have put together from disks.
_NOT_A_DISK: Final = re.compile(r"(loop|ram|zram|sr|fd|nbd|dm-|mtdblock|drbd|rbd)\d*")


@dataclass(frozen=True)
class Disk:
    """A block device as sysfs, mountinfo, wipefs and LVM show it."""

    path: str
    """As it was named."""
    device: str
    """The kernel's name for it, ``/dev/sdb``."""
    number: str
    """``major:minor``."""
    size: Bytes
    model: str = ""
    rotational: bool = False
    read_only: bool = False
    partitions: tuple[str, ...] = ()
    partition_table: str = ""
    """``gpt``, ``dos``, …; '' for none."""
    holders: tuple[str, ...] = ()
    """Kernel names of devices built on it."""
    mounts: tuple[str, ...] = ()
    swap: bool = False
    busy: bool = False
    """The kernel says that somebody has claimed it: also in another mount namespace, or a partition of it."""
    signatures: tuple[str, ...] = ()
    """What libblkid finds on it: ``ext4``, ``LVM2_member``, …"""
    volume: str = ""
    """The device-mapper UUID, if it is a logical volume or one of our thin devices."""
    vg: str | None = None
    """The volume group it belongs to; '' for one whose name cannot be read; None for none."""
    pv_uuid: str = ""
    """Set for a PV in no group."""


def select(spec: PoolSpec, *, sysfs: Path = Path("/sys")) -> list[str]:
    """Return the paths of the disks that ``spec`` names, each disk once.

    A plain path is returned whether it exists or not. A glob and a selection yield whole disks only: a blank partition
    among the matches of ``/dev/sd*`` may be one that firmware needs.
    """
    if spec.selector is not None:
        return _matching(spec.selector, sysfs)
    chosen: dict[str, str] = {}
    for pattern in spec.devices:
        for path in sorted(glob.glob(pattern)) if _GLOB.search(pattern) else (pattern,):
            number = _number(path)
            if path != pattern and (number is None or (sysfs / "dev/block" / number / "partition").exists()):
                continue
            chosen.setdefault(number or path, path)
    return list(chosen.values())


def _matching(selector: DeviceSelector, sysfs: Path) -> list[str]:
    paths = []
    for entry in sorted((sysfs / "block").iterdir()):
        if _NOT_A_DISK.fullmatch(entry.name):
            continue
        size = _size(entry)
        if (
            (selector.min_size is None or size >= selector.min_size)
            and (selector.max_size is None or size <= selector.max_size)
            and (selector.rotational is None or _flag(entry / "queue/rotational") is selector.rotational)
            and (selector.model is None or fnmatch.fnmatchcase(_text(entry / "device/model"), selector.model))
        ):
            paths.append(f"/dev/{entry.name.replace('!', '/')}")
    return paths


def inspect(path: str, lvm: Lvm, *, sysfs: Path = Path("/sys"), proc: Path = Path("/proc")) -> Disk:
    """Look at a disk without writing to it. ``lvm`` must see the disk; it is asked only if there is a PV on it.

    Raise DevicesRefusedError if there is no such disk or it cannot be read.
    """
    number = _number(path)
    if number is None:
        raise DevicesRefusedError("use disk", path, "there is no such block device")
    home = (sysfs / "dev/block" / number).resolve()
    device = f"/dev/{home.name.replace('!', '/')}"
    whole = home.parent if (home / "partition").exists() else home
    claimed = _claimed(device, path)
    tables, signatures = _probe(device, path, lvm.path)
    vg, pv_uuid = _membership(number, lvm) if LVM_MEMBER in signatures else (None, "")
    uuid = _text(home / "dm/uuid")
    return Disk(
        path=path,
        device=device,
        number=number,
        size=_size(home),
        model=_text(whole / "device/model"),
        rotational=_flag(whole / "queue/rotational"),
        read_only=_flag(home / "ro"),
        partitions=tuple(sorted(part.parent.name for part in home.glob("*/partition"))),
        partition_table=", ".join(tables),
        holders=tuple(sorted(holder.name for holder in (home / "holders").glob("*"))),
        mounts=_mounts(number, proc),
        swap=_is_swap(number, proc),
        busy=claimed,
        signatures=signatures,
        volume=uuid if uuid.startswith(("LVM-", "THINPOOL-")) else "",
        vg=vg,
        pv_uuid=pv_uuid,
    )


def refusal(disk: Disk, *, force: bool, own_pvs: Collection[str] = ()) -> str | None:
    """Say why ``disk`` may not be taken, in words a person can act on; None if it may.

    ``force`` overrides signatures only. ``own_pvs`` are the PV UUIDs of an interrupted creation of ours.
    """
    firm = _firm_refusal(disk)
    if firm:
        return firm
    if disk.pv_uuid and disk.pv_uuid in own_pvs and set(disk.signatures) == {LVM_MEMBER}:
        return None
    if disk.signatures and not force:
        found = ", ".join(disk.signatures)
        return f"holds data ({found}): clear it with 'wipefs -a {disk.device}', or set force"
    return None


def _firm_refusal(disk: Disk) -> str | None:
    """Say what no force overrides."""
    reasons = (
        (disk.read_only, "is read-only"),
        (disk.size < MINIMUM, f"is too small: {format_size(disk.size)}, at least {format_size(MINIMUM)} are needed"),
        (bool(disk.mounts), f"is mounted at {', '.join(disk.mounts)}"),
        (disk.swap, "is swap space in use: swapoff first"),
        (bool(disk.partitions), f"has partitions ({', '.join(disk.partitions)}): name one of them, or remove them"),
        (
            bool(disk.partition_table),
            f"has a partition table ({disk.partition_table}): if nothing needs it, run 'wipefs -a {disk.device}'",
        ),
        (bool(disk.volume), f"is a logical volume ({disk.volume})"),
        (bool(disk.vg), f"belongs to the volume group {disk.vg}"),
        (disk.vg == "", "is an LVM physical volume of a group that cannot be read"),
        (bool(disk.holders), f"is held by {', '.join(disk.holders)}"),
        (disk.busy, "is in use: the kernel says that somebody has claimed it"),
    )
    return next((reason for applies, reason in reasons if applies), None)


def _claimed(device: str, path: str) -> bool:
    """Tell whether somebody has claimed the device (open(2), O_EXCL on a block device)."""
    try:
        os.close(os.open(device, os.O_RDONLY | os.O_EXCL | os.O_CLOEXEC))
    except OSError as error:
        if error.errno == errno.EBUSY:
            return True
        raise DevicesRefusedError(
            "use disk", path, "cannot be opened", errno=error.errno or 0, way_out="look at the kernel's log"
        ) from error
    return False


def _probe(device: str, path: str, programs: str | None) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the types of partition tables and of other signatures on the device, by libblkid (wipefs(8))."""
    env = {"PATH": programs} if programs else {}
    argv = ["wipefs", "--no-act", "--json", "--output", "TYPE,USAGE", device]
    try:
        text = process.run(argv, deadline=_PROBE_DEADLINE, env=env).stdout
        rows = json.loads(text)["signatures"] if text.strip() else []
        pairs = {(row["type"] or "unknown", row["usage"]) for row in rows}
    except (CommandError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise DevicesRefusedError("use disk", path, f"cannot be read: {error}") from error
    tables = tuple(sorted(kind for kind, usage in pairs if usage == "partition-table"))
    return tables, tuple(sorted(kind for kind, usage in pairs if usage != "partition-table"))


def _membership(number: str, lvm: Lvm) -> tuple[str | None, str]:
    """Return the VG of a PV (see ``Disk.vg``), and the PV's UUID if it is in none."""
    report = lvm.report()
    for group in report.groups:
        if any(disk.number == number for disk in group.disks):
            pool = group.tag(TAG_POOL)
            return f"{group.name} (pool {pool} of this driver)" if pool else group.name, ""
    for disk in report.loose:
        # In use, and yet in no group that can be seen: the disks with the group's metadata are missing.
        if disk.number == number and not disk.in_use:
            return None, disk.uuid
    return "", ""


def _number(path: str) -> str | None:
    """Return ``major:minor`` of a block device; None if there is none at ``path``."""
    try:
        found = os.stat(path)
    except (OSError, ValueError):
        return None
    if not stat.S_ISBLK(found.st_mode):
        return None
    return f"{os.major(found.st_rdev)}:{os.minor(found.st_rdev)}"


def _mounts(number: str, proc: Path) -> tuple[str, ...]:
    """Return where the device is mounted in our mount namespace (proc_pid_mountinfo(5): fields 3 and 5)."""
    # A mount point is bytes, of which only blank, tab, line feed and backslash are escaped.
    text = os.fsdecode((proc / "self/mountinfo").read_bytes())
    rows = (line.split(" ") for line in text.split("\n") if line)
    return tuple(row[4] for row in rows if row[2] == number)


def _is_swap(number: str, proc: Path) -> bool:
    lines: Sequence[str] = os.fsdecode((proc / "swaps").read_bytes()).split("\n")[1:]
    return any(_number(line.split(" ")[0]) == number for line in lines if line)


def _text(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""  # many devices have no such attribute


def _flag(path: Path) -> bool:
    return _text(path) == "1"


def _size(home: Path) -> Bytes:
    return Bytes(int(_text(home / "size") or 0) * SECTOR)
