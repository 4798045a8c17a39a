"""Snapshots: cut, and found again by name."""

from typing import Final

from csi.catalog.row import Draft
from csi.errors import ExistsError
from csi.model import Device, Handle, Kind, State
from csi.volumes.cutting import cut_one, made_before, settle, source_of
from csi.volumes.pool import PATIENCE, Pool

_CREATE: Final = "create snapshot"


def create(pool: Pool, name: str, handle: Handle) -> Device:
    """Cut a snapshot of a volume, or return the one that an equal request cut before.

    The caller holds the claim on the name. Raise NotFoundError, ExistsError, NoSpaceError, UnavailableError, BusyError.
    """
    existing = made_before(pool, _CREATE, pool.catalog.named(Kind.SNAPSHOT, name))
    if existing is not None:
        if existing.content_source != str(handle):
            raise ExistsError(_CREATE, name, f"the name is taken by {existing.handle}, of {existing.content_source}")
        return existing
    pool.require_open(_CREATE, name)
    source = source_of(pool, _CREATE, handle, (Kind.VOLUME,))
    settle(pool, _CREATE, source.handle)
    with pool.turns.turn(_CREATE, handle.thin, patience=PATIENCE):
        source = source_of(pool, _CREATE, handle, (Kind.VOLUME,))
        return cut_one(pool, _CREATE, source, draft(source, name))


def draft(source: Device, name: str | None) -> Draft:
    """Return what is known of a snapshot of ``source`` before it is cut."""
    return Draft(
        kind=Kind.SNAPSHOT,
        state=State.CUTTING,
        name=name,
        size=source.size,
        origin=source.handle.thin,
        content_source=str(source.handle),
        fs_state=source.fs_state,
        fs_type=source.fs_type,
        fs_unique=source.fs_unique,
        mkfs_profile=source.mkfs_profile,
    )
