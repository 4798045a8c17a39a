"""What is wrong with a pool or a volume, in words that a person can act on."""

import os
from collections.abc import Mapping
from typing import Final

from csi.dm.targets import PoolMode, ThinPoolStatus
from csi.errors import (
    CommandError,
    DriverError,
    InvalidRequestError,
    KernelError,
    NoDevicesError,
    SizeError,
    StateError,
)
from csi.fs import mountinfo
from csi.fs.mountinfo import Mount
from csi.lvm.layout import no_extension_room
from csi.model import THIN_ID_LIMIT, Device, FsType, State
from csi.settings import Mode
from csi.units import format_size
from csi.volumes import capacity
from csi.volumes.pool import LOOK_FOR_DISK, Pool
from csi.volumes.reports import Condition, PoolSpace, Severity

_REASONS: Final[Mapping[type[DriverError], str]] = {
    StateError: "NotUsable",
    CommandError: "CommandFailed",
    KernelError: "KernelFailed",
    SizeError: "DisksTooSmall",
    InvalidRequestError: "InvalidSpec",
}
"""Why a pool is closed, where the error's own name says too little."""

_IDS_LOW: Final = THIN_ID_LIMIT // 100
"""The snapshot clock, of 24 bits too, moves by one a snapshot: it is never nearer to its end than the ids to theirs."""


def pool_conditions(pool: Pool) -> list[Condition]:
    """Return everything that is to be said of a pool, the gravest first."""
    if hanging := hangs(pool):
        return hanging
    try:
        status = pool.thin.status()
    except DriverError as error:
        return [Condition("PoolMissing", str(error), Severity.INACCESSIBLE)]
    return [
        *_broken(pool.spec.name, status),
        *_disks(pool),
        *_catalog(pool),
        *_space(pool, pool.space(status)),
        *_remarks(pool),
    ]


def hangs(pool: Pool) -> list[Condition]:
    """Return the one thing to be said of a pool that does not answer; nothing, if it does."""
    why = pool.hanging()
    return [Condition("DiskHangs", f"{why}; {LOOK_FOR_DISK}", Severity.INACCESSIBLE)] if why else []


def _disks(pool: Pool) -> list[Condition]:
    """Return what was found when the disks, the catalog and the kernel were asked last."""
    trouble = pool.pulse.trouble
    found = [Condition("DiskFailed", str(trouble), Severity.INACCESSIBLE)] if trouble else []
    device = pool.group.catalog_path
    for why in filter(None, (file_system_trouble(mount, device) for mount in mountinfo.of_device(device))):
        said = f"of the catalog: {why}: nothing is created or deleted; restart the node once its disk is well"
        found.append(Condition("CatalogFailed", said, Severity.INACCESSIBLE))
        break
    return found


def volume_conditions(pool: Pool, device: Device) -> list[Condition]:
    """Return what is wrong with one volume: with its pool as far as it is touched, with its device, its file system."""
    if device.state is State.LOST or device.handle.thin in pool.guard.missing:
        said = f"the pool has no data for {device.handle}; restore it from a backup"
        return [Condition("DeviceMissing", said, Severity.DATA_LOSS)]
    try:
        found = _broken(pool.spec.name, pool.thin.status())
    except DriverError as error:
        return [Condition("PoolMissing", str(error), Severity.INACCESSIBLE)]
    info = pool.device(device.handle.thin).info()
    if info is None:
        return found
    if info.suspended:
        found.append(Condition("DeviceSuspended", f"{info.name} is suspended", Severity.INACCESSIBLE))
    for mount in mountinfo.of_device(info.path):
        trouble = file_system_trouble(mount, info.path)
        if trouble:
            said = f"{trouble}: unpublish and stage it again, which checks it"
            found.append(Condition("FileSystemFailed", said, Severity.INACCESSIBLE))
            break
    return found


def file_system_trouble(mount: Mount, device: str) -> str:
    """Say what the kernel lets be seen of a file system on ``device`` whose writes failed; '' if nothing."""
    if "ro" in mount.super_options and "rw" in mount.options:
        return f"the kernel has made its {mount.fs_type} read-only"
    try:
        # One that has shut itself down (xfs) answers nothing but errors.
        os.stat(mount.mount_point)
    except OSError as error:
        return f"its {mount.fs_type} does not answer ({error.strerror})"
    if mount.fs_type == FsType.EXT4:
        # Since 6.13, and in the stable kernels that took it over, an ext4 whose journal is aborted is no longer marked
        # read-only (fs/ext4/super.c, ext4_handle_error). What is left is the count, which e2fsck takes back.
        try:
            with open(f"/sys/fs/ext4/{os.path.basename(device)}/errors_count") as file:
                count = int(file.read())
        except (OSError, ValueError):
            count = 0
        if count:
            return f"the kernel has found {count} errors in its ext4"
    return ""


def _broken(pool: str, status: ThinPoolStatus) -> list[Condition]:
    """Return the states of the pool that touch every volume in it."""
    found = []
    if status.needs_check:
        said = (
            "its metadata could not be written: what was written last may be lost although it was acknowledged;"
            f" end what uses it, stop the node and run 'thinpool-csi repair --pool {pool}'"
        )
        found.append(Condition("NeedsRepair", said, Severity.DATA_LOSS))
    if status.mode is PoolMode.FAIL:
        found.append(Condition("PoolFailed", "the kernel cannot read its metadata", Severity.INACCESSIBLE))
    elif status.mode is PoolMode.READ_ONLY:
        said = "its metadata is full or could not be written: allocated blocks work, new ones do not"
        found.append(Condition("ReadOnly", said, Severity.INACCESSIBLE))
    elif status.mode is PoolMode.OUT_OF_DATA_SPACE:
        waits = "wait" if status.queue_if_no_space else "fail"
        said = f"no data block is free: writes to new blocks {waits}; add a disk or delete volumes"
        found.append(Condition("PoolFull", said, Severity.INACCESSIBLE))
    return found


def _catalog(pool: Pool) -> list[Condition]:
    if not pool.guard.why:
        return []
    said = f"{pool.guard.why}: nothing is created or deleted; {pool.guard.way_out}"
    return [Condition("CatalogBehind", said, Severity.DEGRADED)]


def _space(pool: Pool, space: PoolSpace) -> list[Condition]:
    nothing_new = "no new volume or snapshot is made"
    try:
        shortages, left = capacity.shortages(pool, space), pool.catalog.ids_left()
    except DriverError as error:
        return [Condition("Unavailable", str(error), Severity.INACCESSIBLE)]
    found = [
        Condition(short.reason, f"{short.why}: {nothing_new}; {short.way_out}", Severity.DEGRADED)
        for short in shortages
    ]
    if left < _IDS_LOW:
        said = f"{left:,} of {THIN_ID_LIMIT:,} ids are left, one for each volume and snapshot ever made; when there"
        said = f"{said} are none, {nothing_new}: make another pool and move the volumes there"
        found.append(Condition("IdsLow", said, Severity.DEGRADED))
    return found


def _remarks(pool: Pool) -> list[Condition]:
    found = []
    percent = pool.spec.autoextend.percent
    if pool.spec.mode is Mode.DIRECT and no_extension_room(pool.group.room, pool.group.data_size, percent):
        said = (
            f"the VG has {format_size(pool.group.room.data)} left to extend the data into, less than one step of"
            f" {percent} %: add a disk before the pool is full"
        )
        found.append(Condition("NoExtensionRoom", said, Severity.INFO))
    if pool.group.refused:
        listed = "; ".join(f"{path} {reason}" for path, reason in pool.group.refused.items())
        found.append(Condition("DevicesRefused", f"left alone: {listed}", Severity.INFO))
    if pool.spec.mode is Mode.LOOP:
        said = "on loop devices: for development and a first try, not for production; use direct-lvm there"
        found.append(Condition("LoopLvm", said, Severity.INFO))
    if troubles := list(pool.reclaim_trouble.values()):
        said = f"{len(troubles)} deleted devices keep their space for now: {troubles[0]}"
        found.append(Condition("ReclaimStuck", said, Severity.DEGRADED))
    return found


def closed_condition(error: DriverError, about: str = "") -> Condition:
    """Return why a pool is closed; ``about`` comes before what is said."""
    reason = _REASONS.get(type(error)) or type(error).__name__.removesuffix("Error")
    # A node without such disks is as it should be.
    severity = Severity.INFO if isinstance(error, NoDevicesError) else Severity.INACCESSIBLE
    return Condition(reason, f"{about}{error}", severity)
