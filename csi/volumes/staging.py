"""Volumes on the node: activated and mounted at stage, bound at publish, and back.

A device is active from stage to unstage and at no other time. What is mounted is read from the kernel, never
remembered, so that every call can be repeated after a crash or a reboot.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Final

import structlog

from csi.catalog.claiming import stranger
from csi.dm import block
from csi.dm.ioctl import Info
from csi.errors import (
    BusyError,
    DataLossError,
    DriverError,
    ExistsError,
    InvalidRequestError,
    NotFoundError,
    SizeError,
    StateError,
)
from csi.failpoint import hit
from csi.fs import check, mount, mountinfo
from csi.fs.options import Options
from csi.fs.usage import Usage, usage
from csi.model import Device, FsType, Handle, Kind, State
from csi.settings import Trim
from csi.units import Bytes, round_up, sector_bytes
from csi.volumes import mounts
from csi.volumes.formatting import prepare
from csi.volumes.pool import PATIENCE, Pool
from csi.volumes.requests import Access

_STAGE: Final = "stage volume"
_UNSTAGE: Final = "unstage volume"
_PUBLISH: Final = "publish volume"
_UNPUBLISH: Final = "unpublish volume"

log = structlog.get_logger()


def stage(pool: Pool, handle: Handle, path: str, access: Access) -> None:
    """Activate the volume and mount its file system at ``path``; a raw block volume is only activated.

    Raise NotFoundError, InvalidRequestError, StateError, DataLossError, BusyError, UnavailableError.
    """
    pool.root.split(path)
    with pool.claims.claim(_STAGE, handle, path):
        device = _volume(pool, _STAGE, handle)
        _require_fit(device, access, _STAGE)
        if access.block:
            with _active_on_success(pool, handle), pool.turns.turn(_STAGE, handle.thin, patience=PATIENCE):
                _activate(pool, device)
        else:
            mount_volume(pool, device, path, access)


def mount_volume(pool: Pool, device: Device, path: str, access: Access, *, create: bool = False) -> None:
    """Activate, format if it is new, check, mount and grow the volume at ``path``. The caller holds the claims."""
    thin = pool.device(device.handle.thin)
    fs_type = access.fs_type or device.fs_type or FsType.EXT4
    words = (*(("discard",) if pool.spec.trim is Trim.ONLINE else ()), *access.mount_flags)
    options = Options.parse(fs_type, words, read_only=access.read_only)
    with pool.root.directory(path, create=create) as place:
        there = place.mounted()
        info = thin.info()
        if there is not None and not (info is not None and there.is_of(info.path)):
            raise StateError(_STAGE, path, f"{there.source} is mounted there", way_out="unmount it")
        if there is not None and there.read_only != options.read_only:
            raise ExistsError(_STAGE, path, "it is mounted with another access mode", way_out="unstage it first")
        with _active_on_success(pool, device.handle):
            # The turn keeps the device from being cut while it is activated or formatted.
            with pool.turns.turn(_STAGE, device.handle.thin, patience=PATIENCE):
                # Read again: it may have been grown or formatted while we waited.
                device = _volume(pool, _STAGE, device.handle)
                device_path = _activate(pool, device)
                if there is None and not mountinfo.of_device(device_path):
                    prepare(pool, device, device_path)
            if there is None:
                mount.mount(device_path, place, fs_type, options)
                hit("stage.after-mount")
    if not options.read_only:
        _grow(pool, path, device_path, fs_type)


@contextmanager
def _active_on_success(pool: Pool, handle: Handle) -> Iterator[None]:
    """Deactivate the device on an error, if it was not active before: no unstage need follow a stage that failed."""
    thin = pool.device(handle.thin)
    was_active = thin.info() is not None
    try:
        yield
    except DriverError:
        if not was_active:
            try:
                with pool.turns.turn(_STAGE, handle.thin, patience=PATIENCE):
                    thin.deactivate()
            except DriverError as left:
                # The error that is told is the first; a later stage, unstage or deletion finds the device.
                log.warning("device left active", volume=str(handle), why=str(left))
        raise


def _activate(pool: Pool, device: Device) -> str:
    """Activate the device and return its path. Raise DataLossError if it maps more than its size in the catalog."""
    pool.cover_recorded()
    thin = pool.device(device.handle.thin)
    path = thin.activate(pool.number, device.size)
    hit("stage.after-activate")
    status = thin.status()
    if (
        status is not None
        and status.highest is not None
        and sector_bytes(status.highest) >= round_up(device.size, pool.block_size)
    ):
        raise DataLossError(
            _STAGE,
            str(device.handle),
            f"it holds data beyond the {device.size} bytes that the catalog knows: the catalog is old",
            way_out="run 'thinpool-csi check'",
        )
    return path


def unstage(pool: Pool, handle: Handle, path: str) -> None:
    """Unmount the volume from ``path`` and deactivate its device; what is done already is done.

    Raise StateError while the volume is published or in use.
    """
    pool.root.split(path)
    with pool.claims.claim(_UNSTAGE, handle, path):
        thin = pool.device(handle.thin)
        info = thin.info()
        if info is None:
            return
        here = pool.root.mounted(path)
        others = mounts.elsewhere(info, here)
        if others:
            raise StateError(
                _UNSTAGE, str(handle), f"it is still published at {others[0]}", way_out="unpublish it first"
            )
        if here is not None and here.is_of(info.path):
            mount.unmount(pool.root, path)
            hit("unstage.after-unmount")
        with pool.turns.turn(_UNSTAGE, handle.thin, patience=PATIENCE):
            thin.deactivate()
        hit("unstage.after-deactivate")


def publish(pool: Pool, handle: Handle, staging: str, target: str, access: Access, *, readonly: bool) -> None:
    """Bind the staged volume at ``target``. Raise StateError if it is not staged, or has its one target already."""
    pool.root.split(target)
    with pool.claims.claim(_PUBLISH, handle, target):
        device = _volume(pool, _PUBLISH, handle)
        _require_fit(device, access, _PUBLISH)
        info = pool.device(handle.thin).info()
        if info is None or not info.has_live_table:
            raise StateError(_PUBLISH, str(handle), "it is not staged", way_out="stage it first")
        if access.single_writer:
            taken = mounts.elsewhere(info, pool.root.mounted(staging), pool.root.mounted(target))
            if taken:
                raise StateError(
                    _PUBLISH,
                    str(handle),
                    f"it is published at {taken[0]} for a single writer",
                    way_out="unpublish it there first",
                )
        if access.block:
            _bind_node(pool, info, target)
        else:
            fs_type = access.fs_type or device.fs_type or FsType.EXT4
            options = Options.parse(fs_type, access.mount_flags, read_only=readonly or access.read_only)
            _bind_directory(pool, info, staging, target, options)


def _bind_node(pool: Pool, info: Info, target: str) -> None:
    with pool.root.file(target, create=True) as place:
        hit("publish.after-target")
        there = place.mounted()
        if there is None:
            mount.bind(info.path, place)
            hit("publish.after-bind")
        elif there not in mountinfo.of_node(info.path):
            raise StateError(_PUBLISH, target, f"{there.source} is mounted there", way_out="unmount it")


def _bind_directory(pool: Pool, info: Info, staging: str, target: str, options: Options) -> None:
    with pool.root.directory(staging) as source:
        staged = source.mounted()
        if staged is None or not staged.is_of(info.path):
            raise StateError(_PUBLISH, staging, "the volume is not staged there", way_out="stage it first")
        with pool.root.directory(target, create=True) as place:
            hit("publish.after-target")
            there = place.mounted()
            if there is None:
                mount.bind(source, place, options, read_only=options.read_only)
                hit("publish.after-bind")
            elif not there.is_of(info.path):
                raise StateError(_PUBLISH, target, f"{there.source} is mounted there", way_out="unmount it")
            elif there.read_only and not options.read_only and not staged.read_only:
                raise ExistsError(_PUBLISH, target, "it is published there read-only", way_out="unpublish it first")
            else:
                # Also finishes a read-only bind that was cut short.
                mount.restrict(place, options, read_only=options.read_only)


def unpublish(pool: Pool, handle: Handle, target: str) -> None:
    """Take the volume away from ``target`` and remove the target; what is done already is done.

    Raise StateError if something else is mounted there.
    """
    pool.root.split(target)
    with pool.claims.claim(_UNPUBLISH, handle, target):
        take_away(pool, handle, target)


def take_away(pool: Pool, handle: Handle, target: str) -> None:
    """Unmount the volume from ``target`` and remove the target. The caller holds the claims."""
    there = pool.root.mounted(target)
    if there is not None:
        info = pool.device(handle.thin).info()
        if info is None or not (there.is_of(info.path) or there in mountinfo.of_node(info.path)):
            raise StateError(
                _UNPUBLISH, target, f"{there.source} is mounted there, not {handle}", way_out="unmount it by hand"
            )
        mount.unmount(pool.root, target)
        hit("unpublish.after-unmount")
    pool.root.remove(target)
    hit("unpublish.after-target")


def grow_file_system(pool: Pool, handle: Handle, path: str, required: Bytes) -> Bytes:
    """Let the file system at ``path`` take the volume's whole size, and return that size.

    Raise NotFoundError if the volume is not there, SizeError if the volume is smaller than ``required``.
    """
    operation = "expand file system"
    with pool.claims.claim(operation, handle, path):
        device = _volume(pool, operation, handle)
        if required > device.size:
            raise SizeError(operation, str(handle), f"it has {device.size} bytes, {required} were asked for")
        info = _used_at(pool, operation, handle, path)
        with pool.turns.turn(operation, handle.thin, patience=PATIENCE):
            pool.device(handle.thin).activate(pool.number, device.size)
        there = pool.root.mounted(path)
        if there is not None and there.is_of(info.path) and not there.read_only:
            _grow(pool, path, info.path, FsType(there.fs_type))
        return device.size


def volume_usage(pool: Pool, handle: Handle, path: str) -> Usage:
    """Return how full the volume at ``path`` is. Raise NotFoundError if it is not there."""
    operation = "measure volume"
    device = _volume(pool, operation, handle)
    info = _used_at(pool, operation, handle, path)
    if device.fs_type is None:
        size = block.size(info.path)
        status = pool.device(handle.thin).status()
        used = Bytes(min(size, sector_bytes(status.mapped))) if status else Bytes(0)
        return Usage(size, used, Bytes(size - used), 0, 0, 0)
    with pool.root.directory(path) as place:
        return usage(place)


def _used_at(pool: Pool, operation: str, handle: Handle, path: str) -> Info:
    """Return the device if it is mounted or bound at ``path``. Raise NotFoundError otherwise."""
    info = pool.device(handle.thin).info()
    try:
        pool.root.split(path)
    except InvalidRequestError as error:
        raise NotFoundError(operation, str(handle), f"it is not at {path[:200]!r}") from error
    there = pool.root.mounted(path) if info is not None else None
    if info is None or there is None or not (there.is_of(info.path) or there in mountinfo.of_node(info.path)):
        raise NotFoundError(operation, str(handle), f"it is not at {path}")
    return info


def _grow(pool: Pool, path: str, device_path: str, fs_type: FsType) -> None:
    with pool.root.directory(path):
        check.grow(device_path, path, fs_type)


def _volume(pool: Pool, operation: str, handle: Handle) -> Device:
    device = pool.catalog.device(handle.thin)
    if device is None or device.kind is Kind.QUARANTINED:
        device = _in_use(pool, handle) or device
    if device is None or device.kind is not Kind.VOLUME or device.state is State.DELETING:
        raise pool.not_found(operation, handle, "volume")
    if device.state in (State.CREATING, State.CUTTING):
        raise BusyError(operation, str(handle), "it is being made", way_out="send it again later")
    if device.state is State.LOST or handle.thin in pool.guard.missing:
        raise StateError(
            operation, str(handle), "the pool does not have it any more", way_out="restore it from a backup"
        )
    return device


def _in_use(pool: Pool, handle: Handle) -> Device | None:
    """Return what the kernel knows of a volume that the catalog lost, if it is mounted or bound somewhere.

    We alone mount and bind, and volumes alone: it can be used on as it is.
    """
    info = pool.device(handle.thin).info()
    if info is None or not info.has_live_table or not mounts.anywhere(info):
        return None
    kinds = {there.fs_type for there in mountinfo.of_device(info.path)}
    fs_type = next((kind for kind in FsType if kind in kinds), None)
    return replace(stranger(handle, block.size(info.path)), kind=Kind.VOLUME, fs_type=fs_type)


def _require_fit(device: Device, access: Access, operation: str) -> None:
    if access.block == (device.fs_type is None):
        if access.fs_type in (None, device.fs_type):
            return
        raise StateError(operation, str(device.handle), f"it holds {device.fs_type}, {access.fs_type} was asked for")
    made, asked = ("a raw block volume", "a file system") if device.fs_type is None else ("a file system", "raw block")
    raise StateError(operation, str(device.handle), f"it was made as {made}, {asked} was asked for")
