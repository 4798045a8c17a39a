"""Volumes: made blank or from a source, grown, deleted."""

import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from csi.catalog.row import Draft
from csi.errors import ExistsError, InvalidRequestError, SizeError, StateError
from csi.failpoint import hit
from csi.fs import mkfs
from csi.model import Device, FsState, FsType, Handle, Kind, State
from csi.units import Bytes
from csi.volumes import capacity, mounts, template
from csi.volumes.cutting import cut_one, made_before, settle, source_of
from csi.volumes.making import make_at_rest
from csi.volumes.pool import PATIENCE, Pool
from csi.volumes.requests import VolumeRequest

_CREATE: Final = "create volume"

_UNSTAGING: Final = 5.0
_UNSTAGING_PAUSE: Final = 0.1

_NOBODYS: Final = (FsState.UNFORMATTED, FsState.FORMATTING)
"""Nothing was ever stored. A copy of a volume whose first mkfs was cut short is formatted anew, as that itself is."""


def create(pool: Pool, request: VolumeRequest) -> Device:
    """Make the volume that ``request`` describes, or return the one that an equal request made before.

    The caller holds the claim on the name. Raise ExistsError for the name of a different volume, NotFoundError for an
    unknown source, SizeError, NoSpaceError, UnavailableError, BusyError.
    """
    named = pool.catalog.named(Kind.VOLUME, request.name, ephemeral=request.ephemeral)
    existing = made_before(pool, _CREATE, named)
    if existing is not None:
        return _same(existing, request)
    pool.require_open(_CREATE, request.name)
    return _copy(pool, request, request.source) if request.source else _blank(pool, request)


def _blank(pool: Pool, request: VolumeRequest) -> Device:
    fs_type = None if request.block else request.fs_type or FsType.EXT4
    least = mkfs.minimum_size(fs_type) if fs_type else Bytes(0)
    required = request.required
    if not required:
        default = pool.spec.default_volume_size
        required = Bytes(min(default, request.limit)) if request.limit else default
    size = capacity.choose_size(_CREATE, request.name, required, request.limit, least)
    draft = Draft(
        kind=Kind.VOLUME,
        state=State.CREATING,
        name=request.name,
        size=size,
        fs_state=FsState.UNFORMATTED if fs_type else FsState.NONE,
        fs_type=fs_type,
        mkfs_profile=request.mkfs_profile,
        ephemeral=request.ephemeral,
    )
    with pool.templates.using(template.shape(pool, fs_type, size, request.mkfs_profile)) as fresh:
        if fresh is not None:
            draft = replace(draft, origin=fresh.handle.thin, fs_state=FsState.FRESH, fs_unique=False)
        return make_at_rest(pool, draft)


def _copy(pool: Pool, request: VolumeRequest, handle: Handle) -> Device:
    source = source_of(pool, _CREATE, handle, (Kind.VOLUME, Kind.SNAPSHOT))
    settle(pool, _CREATE, source.handle)
    with pool.turns.turn(_CREATE, source.handle.thin, patience=PATIENCE):
        # Read again: it may have been deleted, grown or formatted while we waited.
        source = source_of(pool, _CREATE, handle, (Kind.VOLUME, Kind.SNAPSHOT))
        fs_state, fs_type = _copied_fs(request, source)
        # A source that was never formatted gives no file system, only its type.
        if fs_type and fs_state in _NOBODYS:
            least = mkfs.minimum_size(fs_type)
        else:
            least = mkfs.minimum_grown(fs_type) if request.required > source.size else Bytes(0)
        size = capacity.choose_size(
            _CREATE, request.name, request.required, request.limit, Bytes(max(source.size, least))
        )
        draft = Draft(
            kind=Kind.VOLUME,
            state=State.CREATING,
            name=request.name,
            size=size,
            origin=source.handle.thin,
            content_source=str(handle),
            fs_state=fs_state,
            fs_type=fs_type,
            fs_unique=fs_state in (*_NOBODYS, FsState.NONE),
            mkfs_profile=request.mkfs_profile,
            ephemeral=request.ephemeral,
        )
        return cut_one(pool, _CREATE, source, draft)


def _copied_fs(request: VolumeRequest, source: Device) -> tuple[FsState, FsType | None]:
    """Return what is known of the file system on a copy of ``source``."""
    if request.block:
        return FsState.NONE, None
    if source.fs_state in _NOBODYS:
        return source.fs_state, request.fs_type or source.fs_type
    if source.fs_state in (FsState.FORMATTED, FsState.FRESH):
        if request.fs_type not in (None, source.fs_type):
            raise InvalidRequestError(
                _CREATE,
                request.name,
                f"its source has {source.fs_type}, {request.fs_type} was asked for",
                way_out="use a StorageClass with the file system of the source",
            )
        return source.fs_state, source.fs_type
    # What a raw block source holds is not known to us: it is mounted if it is what was asked for, never formatted.
    return FsState.UNKNOWN, request.fs_type or source.fs_type or FsType.EXT4


def _same(existing: Device, request: VolumeRequest) -> Device:
    """Return ``existing`` if it is what ``request`` asks for."""
    wanted = None if request.block else request.fs_type or existing.fs_type or FsType.EXT4
    differences = [
        what
        for what, differs in (
            ("size", existing.size < request.required or bool(request.limit and existing.size > request.limit)),
            ("content source", existing.content_source != (str(request.source) if request.source else "")),
            ("file system", existing.fs_type != wanted),
            ("mkfsProfile", existing.mkfs_profile != request.mkfs_profile),
        )
        if differs
    ]
    if differences:
        raise ExistsError(
            _CREATE, request.name, f"the name is taken by {existing.handle}, with another {', '.join(differences)}"
        )
    return existing


def grow(pool: Pool, handle: Handle, required: Bytes, limit: Bytes) -> Device:
    """Grow a volume, in use or not, to at least ``required``; it never shrinks.

    Raise NotFoundError, SizeError, NoSpaceError, UnavailableError, BusyError.
    """
    operation = "expand volume"
    # What is deleted already has its turn taken by giving back its space, which may last.
    source_of(pool, operation, handle, (Kind.VOLUME,))
    with (
        pool.claims.claim(operation, handle),
        pool.turns.turn(operation, handle.thin, patience=PATIENCE),
    ):
        device = source_of(pool, operation, handle, (Kind.VOLUME,))
        thin = pool.device(handle.thin)
        info = thin.info()
        if required <= device.size:
            if limit and device.size > limit:
                raise SizeError(operation, str(handle), f"it has {device.size} bytes, more than the limit of {limit}")
            pool.cover_recorded()
        else:
            pool.require_open(operation, str(handle))
            least = Bytes(max(device.size, mkfs.minimum_grown(device.fs_type)))
            size = capacity.choose_size(operation, str(handle), required, limit, least)
            admit = capacity.admission(pool, operation, str(handle), Bytes(size - device.size))
            device, ceiling = pool.catalog.grow(device, size, covered=pool.kernel_ceiling, admit=admit)
            hit("grow.after-intent")
            pool.cover(ceiling)
            hit("grow.after-reserve")
        if info is not None:
            # Also when the catalog had the size already: an earlier attempt may have stopped before the table.
            thin.activate(pool.number, device.size)
            hit("grow.after-table")
        return device


def delete(pool: Pool, handles: Sequence[Handle], kind: Kind, operation: str) -> None:
    """Delete devices of one kind: recorded and answered now, their space given back in the background.

    What is not there is deleted already. Raise StateError for what is in use or in quarantine, BusyError.
    """
    # Deleted already: the answer need not wait until its space is given back, which takes its turn and may last.
    doomed = [device for handle in handles if (device := _doomed(pool, handle, kind, operation))]
    if not doomed:
        return
    _await_unused(pool, doomed)
    with (
        pool.claims.claim(operation, *handles),
        pool.turns.turn(operation, *(handle.thin for handle in handles), patience=PATIENCE),
    ):
        doomed = [device for handle in handles if (device := _doomed(pool, handle, kind, operation))]
        if not doomed:
            return
        for device in doomed:
            require_unused(pool, device, operation)
        pool.catalog.delete(doomed)
        hit("delete.after-intent")
    pool.reclaim_wanted.set()


def _doomed(pool: Pool, handle: Handle, kind: Kind, operation: str) -> Device | None:
    device = pool.catalog.device(handle.thin)
    if device is not None and device.state is State.DELETING:
        return None
    # What a catalog that is behind does not know is not gone.
    pool.require_open(operation, str(handle))
    if device is not None and device.kind is Kind.QUARANTINED:
        raise pool.not_found(operation, handle, str(kind))
    return device if device is not None and device.kind is kind else None


def _await_unused(pool: Pool, devices: Sequence[Device]) -> None:
    """Wait a little for volumes to be unstaged: a claim is gone before the kubelet has come to that.

    No claim is held meanwhile, for unstaging needs it. Whether it was enough, ``require_unused`` says.
    """
    if not pool.leaving.acquire(blocking=False):
        return
    try:
        end = time.monotonic() + _UNSTAGING
        while any(_staged(pool, device.handle) for device in devices) and time.monotonic() < end:
            time.sleep(_UNSTAGING_PAUSE)
    finally:
        pool.leaving.release()


def _staged(pool: Pool, handle: Handle) -> bool:
    """Tell whether the volume is active, or about to be or not to be."""
    return pool.claims.held(handle) or pool.device(handle.thin).info() is not None


def require_unused(pool: Pool, device: Device, operation: str) -> None:
    """See that nobody uses the device, and that it is not active. Raise StateError otherwise."""
    thin = pool.device(device.handle.thin)
    info = thin.info()
    if info is None:
        return
    where = mounts.anywhere(info)
    if where or info.open_count:
        raise StateError(
            operation,
            str(device.handle),
            f"it is in use ({where[0] if where else f'opened {info.open_count} times'})",
            way_out="unpublish and unstage it first",
        )
    # Active and unused: what an interrupted stage left behind.
    thin.deactivate()
