"""Rows made of what is known of a device besides the catalog: that the pool has it, and what the cluster says of it."""

import sqlite3
import time
from collections.abc import Sequence
from dataclasses import replace

from csi.catalog.row import COLUMNS, parse
from csi.model import Claim, Device, FsState, FsType, GroupHandle, Handle, Kind, PoolId, State
from csi.units import Bytes


def stranger(handle: Handle, size: Bytes) -> Device:
    """Return what is said of a device that nothing is known of: it is in quarantine."""
    return Device(
        handle=handle,
        kind=Kind.QUARANTINED,
        state=State.READY,
        name=None,
        size=size,
        origin=None,
        content_source="",
        group=None,
        fs_state=FsState.UNKNOWN,
        fs_type=None,
        fs_unique=True,
        mkfs_profile="auto",
        ephemeral=False,
        created=time.time_ns(),
    )


def add_lost(db: sqlite3.Connection, claim: Claim) -> None:
    """Add the row of a device that is claimed and that the pool does not have."""
    device = replace(_claimed(db, stranger(claim.handle, claim.size), claim), state=State.LOST)
    _join(db, claim, device)
    insert(db, device)


def take_up(db: sqlite3.Connection, pool: PoolId, claims: Sequence[Claim]) -> list[str]:
    """Let what is in quarantine and is claimed be what its claim says. Return what was changed, a line each."""
    said = []
    for claim in claims:
        row = db.execute(
            f"SELECT {COLUMNS} FROM device WHERE thin_id = ? AND kind = 'quarantined'",  # noqa: S608 - constant
            (claim.handle.thin,),
        ).fetchone()
        if row is None:
            continue
        device = _claimed(db, parse(pool, row), claim)
        _join(db, claim, device)
        update(db, device)
        said.append(f"{device.handle}: named by the cluster, is a {device.kind} of {device.size} bytes")
    return said


def _claimed(db: sqlite3.Connection, device: Device, claim: Claim) -> Device:
    taken = db.execute(
        "SELECT 1 FROM device WHERE kind = ? AND ephemeral = 0 AND name = ?", (claim.kind, claim.name)
    ).fetchone()
    volume = claim.kind is Kind.VOLUME
    source = claim.source if claim.source is not None and claim.source.pool == claim.handle.pool else None
    return replace(
        device,
        kind=claim.kind,
        # The name is only for a repeated request; whose it is now, its own object knows by the handle.
        name=None if taken else claim.name,
        size=max(device.size, claim.size),
        origin=source.thin if source else None,
        content_source=str(source or ""),
        group=claim.group if source else None,
        # What is on it is used, and never formatted.
        fs_state=FsState.NONE if volume and claim.fs_type is None else FsState.UNKNOWN,
        fs_type=claim.fs_type,
        # It may be a copy that was never staged; one UUID more than needed does no harm.
        fs_unique=claim.fs_type is not FsType.BTRFS,
        created=claim.created or device.created,
    )


def _join(db: sqlite3.Connection, claim: Claim, device: Device) -> None:
    """See that there is the group that a snapshot belongs to, if any; the objects do not tell its name."""
    if device.group is None:
        return
    name = str(GroupHandle(claim.handle.pool, device.group))
    db.execute(
        "INSERT INTO snapshot_group VALUES (?, ?, ?, ?, 1)"
        " ON CONFLICT (group_id) DO UPDATE SET sources = sources || ',' || excluded.sources",
        (device.group, name, str(device.origin), claim.created or time.time_ns()),
    )


def insert(db: sqlite3.Connection, device: Device) -> None:
    """Add the row of a device."""
    db.execute(
        f"INSERT INTO device ({COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",  # noqa: S608 - constant
        (device.handle.thin, *_values(device)),
    )


def update(db: sqlite3.Connection, device: Device) -> None:
    """Replace the row of a device."""
    columns = ", ".join(f"{column.strip()} = ?" for column in COLUMNS.split(",")[1:])
    db.execute(
        f"UPDATE device SET {columns} WHERE thin_id = ?",  # noqa: S608 - constant
        (*_values(device), device.handle.thin),
    )


def _values(device: Device) -> tuple[object, ...]:
    """Return what COLUMNS after the thin id hold."""
    return (
        *(device.kind, device.state, device.name, device.size, device.origin, device.content_source, device.group),
        *(device.fs_state, device.fs_type, device.fs_unique, device.mkfs_profile, device.ephemeral, device.created),
    )
