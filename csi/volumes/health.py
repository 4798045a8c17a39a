"""What is wrong with a pool or a volume, in words that a person can act on."""

import os

from csi.dm.ioctl import Info
from csi.dm.targets import PoolMode, ThinPoolStatus
from csi.errors import DriverError
from csi.fs import mountinfo
from csi.fs.mountinfo import Mount
from csi.lvm.layout import no_extension_room
from csi.model import Device, FsType, State
from csi.settings import Mode
from csi.units import format_size
from csi.volumes import capacity
from csi.volumes.pool import Pool
from csi.volumes.reports import Condition, PoolSpace, Severity


def pool_conditions(pool: Pool) -> list[Condition]:
    """Return everything that is to be said of a pool, the gravest first."""
    try:
        status = pool.thin.status()
    except DriverError as error:
        return [Condition("PoolMissing", str(error), Severity.INACCESSIBLE)]
    return [*_broken(status), *_catalog(pool), *_space(pool, pool.space(status)), *_remarks(pool)]


def volume_conditions(pool: Pool, device: Device) -> list[Condition]:
    """Return what is wrong with one volume: with its pool as far as it is touched, with its device, its file system."""
    if device.state is State.LOST or device.handle.thin in pool.guard.missing:
        said = f"the pool has no data for {device.handle}; restore it from a backup"
        return [Condition("DeviceMissing", said, Severity.DATA_LOSS)]
    try:
        found = _broken(pool.thin.status())
    except DriverError as error:
        return [Condition("PoolMissing", str(error), Severity.INACCESSIBLE)]
    info = pool.device(device.handle.thin).info()
    if info is None:
        return found
    if info.suspended:
        found.append(Condition("DeviceSuspended", f"{info.name} is suspended", Severity.INACCESSIBLE))
    for mount in mountinfo.of_device(info.path):
        trouble = _trouble(mount, info)
        if trouble:
            said = f"{trouble}: unpublish and stage it again, which checks it"
            found.append(Condition("FileSystemFailed", said, Severity.INACCESSIBLE))
            break
    return found


def _trouble(mount: Mount, info: Info) -> str:
    """Say what the kernel lets be seen of a file system whose writes failed; '' if nothing."""
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
            with open(f"/sys/fs/ext4/{os.path.basename(info.path)}/errors_count") as file:
                count = int(file.read())
        except (OSError, ValueError):
            count = 0
        if count:
            return f"the kernel has found {count} errors in its ext4"
    return ""


def _broken(status: ThinPoolStatus) -> list[Condition]:
    """Return the states of the pool that touch every volume in it."""
    found = []
    if status.needs_check:
        said = (
            "its metadata could not be written: what was written last may be lost although it was acknowledged;"
            " stop the node and run thin_check before anything else"
        )
        found.append(Condition("NeedsCheck", said, Severity.DATA_LOSS))
    if status.mode is PoolMode.FAIL:
        found.append(Condition("PoolFailed", "the kernel cannot read its metadata", Severity.INACCESSIBLE))
    elif status.mode is PoolMode.READ_ONLY:
        said = "its metadata is full or could not be written: allocated blocks work, new ones do not"
        found.append(Condition("PoolReadOnly", said, Severity.INACCESSIBLE))
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
    short = capacity.shortage(pool, space)
    if not short:
        return []
    said = f"{short}: no new volume or snapshot is made; add a disk or delete volumes"
    return [Condition("MetadataSpaceLow" if "metadata" in short else "DataSpaceLow", said, Severity.DEGRADED)]


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
