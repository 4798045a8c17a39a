"""The store: one SQLite connection, transactions that are durable or not as the caller needs, rows as values."""

import os
import sqlite3
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib.resources import files
from pathlib import Path
from typing import Final

from csi.errors import DataLossError, DriverError, UnavailableError
from csi.failpoint import hit
from csi.model import (
    THIN_ID_LIMIT,
    Device,
    FsState,
    FsType,
    Group,
    GroupHandle,
    GroupId,
    Handle,
    Kind,
    PoolId,
    State,
    ThinId,
)
from csi.units import Bytes

SCHEMA_VERSION: Final = 1
FILE_NAME: Final = "catalog.db"

ID_BATCH: Final = 64
"""Thin ids reserved at a time. A start begins a new batch: what was reserved and not handed out is lost to it."""

_REBUILD: Final = "run 'thinpool-csi check --rebuild'"

_COLUMNS: Final = (
    "thin_id, kind, state, name, size, origin, content_source, group_id,"
    " fs_state, fs_type, fs_unique, mkfs_profile, ephemeral, created"
)


@dataclass(frozen=True)
class Counts:
    """What the catalog holds, kept by triggers."""

    volumes: int
    snapshots: int
    deleting: int
    quarantined: int
    virtual: Bytes
    """The sizes of all volumes together."""


@dataclass(frozen=True)
class Draft:
    """A device that is about to be made: what the caller knows before there is a thin id."""

    kind: Kind
    state: State
    name: str | None
    """None for a member of a group, which is known by the group's name."""
    size: Bytes
    origin: ThinId | None = None
    content_source: str = ""
    fs_state: FsState = FsState.NONE
    fs_type: FsType | None = None
    fs_unique: bool = True
    mkfs_profile: str = "auto"
    ephemeral: bool = False


class Catalog:
    """A pool's catalog, open. Safe for many threads; calls are short and take turns.

    A method that changes something says whether it is durable when it returns. What is not durable yet may be lost by
    a power cut (never by the death of the process), and only where recovery comes to the same result without it.
    """

    def __init__(self, connection: sqlite3.Connection, pool: PoolId) -> None:
        self._db = connection
        self._pool = pool
        self._lock = threading.Lock()
        self.on_disk: Final = connection.execute("PRAGMA database_list").fetchone()[2] != ""
        """Whether it outlives the process; False for the stand-in of a lost one."""

    @classmethod
    def create(cls, directory: Path | None, pool: PoolId, block_size: Bytes, ceiling: int) -> "Catalog":
        """Make a catalog in ``directory`` (None: in memory) whose ids start at ``ceiling``; durable.

        It is written under another name and renamed, so a catalog that exists is whole.
        """
        if directory is None:
            catalog = cls(_connect(":memory:"), pool)
            catalog._fill(block_size, ceiling)
            return catalog
        fresh = directory / f"{FILE_NAME}.new"
        for leftover in directory.glob(f"{FILE_NAME}.new*"):
            leftover.unlink()
        catalog = cls(_connect(str(fresh)), pool)
        catalog._fill(block_size, ceiling)
        catalog.close()
        _sync(fresh)
        for stale in (directory / f"{FILE_NAME}-wal", directory / f"{FILE_NAME}-shm"):
            stale.unlink(missing_ok=True)
        hit("adopt.after-catalog-written")
        fresh.rename(directory / FILE_NAME)
        _sync(directory)
        return cls.open(directory, pool)

    @classmethod
    def open(cls, directory: Path, pool: PoolId) -> "Catalog":
        """Open the catalog in ``directory``.

        Raise DataLossError if it is damaged: only then may it be given up for a new one. Raise UnavailableError if it
        is of another pool or another version, or cannot be read now.
        """
        path = directory / FILE_NAME
        try:
            connection = _connect(str(path))
        except sqlite3.Error as error:
            raise _unreadable(path, error) from error
        try:
            _prepare(connection)
            _examine(connection, path, pool)
        except sqlite3.Error as error:
            connection.close()
            raise _unreadable(path, error) from error
        except BaseException:
            connection.close()
            raise
        return cls(connection, pool)

    def close(self) -> None:
        """Write the log back and close."""
        with self._lock:
            self._db.close()

    # -- reading ------------------------------------------------------------------------------------------------

    def device(self, thin: ThinId) -> Device | None:
        """Return the device with this thin id."""
        with self._reading():
            return self._device(thin)

    def named(self, kind: Kind, name: str, *, ephemeral: bool = False) -> Device | None:
        """Return the device that was given this name."""
        with self._reading():
            row = self._db.execute(
                f"SELECT {_COLUMNS} FROM device WHERE kind = ? AND ephemeral = ? AND name = ?",  # noqa: S608 - constant
                (kind, ephemeral, name),
            ).fetchone()
        return self._parse(row) if row else None

    def devices(self, *, kind: Kind | None = None, state: State | None = None) -> list[Device]:
        """Return all devices of a kind or in a state, by thin id."""
        with self._reading():
            rows = self._db.execute(
                f"SELECT {_COLUMNS} FROM device WHERE kind = ifnull(?, kind) AND state = ifnull(?, state)"  # noqa: S608 - constant
                " ORDER BY thin_id",
                (kind, state),
            ).fetchall()
        return [self._parse(row) for row in rows]

    def deleting(self, most: int) -> list[Device]:
        """Return up to ``most`` devices whose deletion was answered and whose space is not yet given back."""
        with self._reading():
            rows = self._db.execute(
                f"SELECT {_COLUMNS} FROM device WHERE state = 'deleting' LIMIT ?",  # noqa: S608 - constant
                (most,),
            ).fetchall()
        return [self._parse(row) for row in rows]

    def group(self, group: GroupId) -> Group | None:
        """Return the group snapshot with this number, if all of it was cut."""
        with self._reading():
            row = self._db.execute(
                "SELECT group_id, name, created FROM snapshot_group WHERE group_id = ? AND cut = 1", (group,)
            ).fetchone()
            return self._group(row) if row else None

    def group_named(self, name: str) -> tuple[Group, list[ThinId], bool] | None:
        """Return the group with this name, its sources' thin ids, and whether all of it was cut."""
        with self._reading():
            row = self._db.execute(
                "SELECT group_id, name, created, sources, cut FROM snapshot_group WHERE name = ?", (name,)
            ).fetchone()
            if row is None:
                return None
            sources = [ThinId(int(part)) for part in row[3].split(",")]
            return self._group(row[:3]), sources, bool(row[4])

    def uncut_groups(self) -> list[Group]:
        """Return the groups that a crash left before every member was known to be cut."""
        with self._reading():
            rows = self._db.execute("SELECT group_id, name, created FROM snapshot_group WHERE cut = 0").fetchall()
            return [self._group(row) for row in rows]

    def counts(self) -> Counts:
        """Return the totals."""
        with self._reading():
            row = self._db.execute("SELECT volumes, snapshots, deleting, strangers, virtual FROM pool").fetchone()
        return Counts(row[0], row[1], row[2], row[3], Bytes(row[4]))

    def ceiling(self) -> tuple[int, int]:
        """Return the ceiling of reserved ids, and the ceiling that the kernel is known to have had."""
        with self._reading():
            covered, ceiling = self._db.execute("SELECT covered, ceiling FROM pool").fetchone()
        return ceiling, covered

    def ids_left(self) -> int:
        """Return how many thin ids this pool can still hand out in its life."""
        with self._reading():
            (following,) = self._db.execute("SELECT next_id FROM pool").fetchone()
        return max(0, THIN_ID_LIMIT - int(following))

    # -- changing -----------------------------------------------------------------------------------------------

    def add(self, drafts: Sequence[Draft], *, covered: int, group: str | None = None) -> tuple[list[Device], int]:
        """Record the intent to make devices, each with a new thin id; durable.

        Return them and the ceiling that the kernel must have before they are made. With ``group`` they are the members
        of a new group snapshot of that name, in the order of their sources, whose number is the first member's id.
        ``covered`` is the ceiling that the kernel has now.
        Raise UnavailableError when the pool's ids are used up.
        """
        now = time.time_ns()
        with self._transaction(durable=True):
            following, ceiling = self._db.execute("SELECT next_id, ceiling FROM pool").fetchone()
            after = following + len(drafts)
            if after > THIN_ID_LIMIT:
                raise UnavailableError(
                    "allocate thin id",
                    self._pool,
                    "all 16,777,216 ids of the pool are used up",
                    way_out="make another pool and move the volumes there",
                )
            if after > ceiling:
                ceiling = min(max(after, ceiling + ID_BATCH), THIN_ID_LIMIT)
            self._db.execute(
                "UPDATE pool SET next_id = ?, ceiling = ?, covered = max(covered, ?)", (after, ceiling, covered)
            )
            group_id = following if group is not None else None
            if group is not None:
                sources = ",".join(str(draft.origin) for draft in drafts)
                self._db.execute("INSERT INTO snapshot_group VALUES (?, ?, ?, ?, 0)", (group_id, group, sources, now))
            self._db.executemany(
                f"INSERT INTO device ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",  # noqa: S608
                [
                    (
                        following + place,
                        draft.kind,
                        draft.state,
                        draft.name,
                        draft.size,
                        draft.origin,
                        draft.content_source,
                        group_id,
                        draft.fs_state,
                        draft.fs_type,
                        draft.fs_unique,
                        draft.mkfs_profile,
                        draft.ephemeral,
                        now,
                    )
                    for place, draft in enumerate(drafts)
                ],
            )
            made = [self._known(ThinId(following + place)) for place in range(len(drafts))]
        return made, ceiling

    def ready(self, device: Device, *, durable: bool) -> Device:
        """Record that the device was made."""
        with self._transaction(durable=durable):
            self._db.execute("UPDATE device SET state = 'ready' WHERE thin_id = ?", (device.handle.thin,))
        return replace(device, state=State.READY)

    def group_cut(self, group: GroupId, created: int, *, covered: int) -> tuple[Group, int]:
        """Record that every member was cut at one point in time, ``created``; durable.

        Return the group and the ceiling that the kernel must have next. The ceiling rises, so that a catalog in which
        the group is still to be taken back is known to be older.
        """
        with self._transaction(durable=True):
            ceiling = self._raise(covered)
            self._db.execute("UPDATE snapshot_group SET cut = 1, created = ? WHERE group_id = ?", (created, group))
            self._db.execute("UPDATE device SET state = 'ready', created = ? WHERE group_id = ?", (created, group))
            row = self._db.execute(
                "SELECT group_id, name, created FROM snapshot_group WHERE group_id = ?", (group,)
            ).fetchone()
            return self._group(row), ceiling

    def snapshot_cut(self, device: Device, created: int, *, covered: int) -> tuple[Device, int]:
        """Record that a snapshot of a frozen origin was cut at ``created``; durable. The ceiling rises likewise."""
        with self._transaction(durable=True):
            ceiling = self._raise(covered)
            self._db.execute(
                "UPDATE device SET state = 'ready', created = ? WHERE thin_id = ?", (created, device.handle.thin)
            )
        return replace(device, state=State.READY, created=created), ceiling

    def delete(self, devices: Sequence[Device], *, group: GroupId | None = None) -> None:
        """Record that devices are to be deleted, with their group if one is named; their names are free; durable.

        One that was quarantined since the caller looked stays: nobody knows whose it is.
        """
        with self._transaction(durable=True):
            self._db.executemany(
                "UPDATE device SET state = 'deleting', name = NULL, group_id = NULL WHERE thin_id = ? AND kind = ?",
                [(device.handle.thin, device.kind) for device in devices],
            )
            if group is not None:
                self._db.execute("DELETE FROM snapshot_group WHERE group_id = ?", (group,))

    def quarantine(self, device: Device) -> None:
        """Record that the pool has a device of this id that is not the one that was to be made; durable."""
        with self._transaction(durable=True):
            self._quarantine(device.handle.thin)

    def emptying(self, *, covered: int) -> int:
        """Record that a deleted device is about to be emptied; durable. Return the ceiling the kernel must have first.

        The ceiling rises, so that a catalog in which the device is not yet deleted is known to be older than the pool.
        """
        with self._transaction(durable=True):
            return self._raise(covered)

    def forget(self, device: Device) -> None:
        """Drop the row of a device that the pool no longer has; not durable (recovery finds it gone again)."""
        with self._transaction(durable=False):
            self._db.execute("DELETE FROM device WHERE thin_id = ?", (device.handle.thin,))

    def grow(self, device: Device, size: Bytes, *, covered: int) -> tuple[Device, int]:
        """Record a greater size; durable. Return the device and the ceiling that the kernel must have next.

        The ceiling rises, so that a catalog from before the growth is known to be older than the pool.
        """
        with self._transaction(durable=True):
            ceiling = self._raise(covered)
            self._db.execute("UPDATE device SET size = ? WHERE thin_id = ?", (size, device.handle.thin))
        return replace(device, size=size), ceiling

    def formatting(self, device: Device) -> None:
        """Record that mkfs is about to run; durable."""
        with self._transaction(durable=True):
            self._db.execute("UPDATE device SET fs_state = 'formatting' WHERE thin_id = ?", (device.handle.thin,))

    def formatted(self, device: Device, fs_type: FsType, *, covered: int) -> int:
        """Record that there is a file system; durable. Return the ceiling that the kernel must have next.

        The ceiling rises, so that a catalog in which this volume may still be formatted is known to be older.
        """
        with self._transaction(durable=True):
            ceiling = self._raise(covered)
            self._db.execute(
                "UPDATE device SET fs_state = 'formatted', fs_type = ? WHERE thin_id = ?", (fs_type, device.handle.thin)
            )
        return ceiling

    def fs_renewed(self, device: Device) -> None:
        """Record that the file system's UUID is its own; durable."""
        with self._transaction(durable=True):
            self._db.execute("UPDATE device SET fs_unique = 1 WHERE thin_id = ?", (device.handle.thin,))

    def begin_at(self, ceiling: int) -> None:
        """Let the next id be ``ceiling`` and record that the kernel has that ceiling; durable.

        Done at each start: whatever happened to a catalog in between, an id below the kernel's number is never
        handed out again.
        """
        with self._transaction(durable=True):
            self._db.execute(
                "UPDATE pool SET next_id = max(next_id, ?), ceiling = max(ceiling, ?), covered = ?",
                (ceiling, ceiling, ceiling),
            )

    def rebuild(self, present: dict[ThinId, Bytes]) -> list[str]:
        """Make the catalog agree with the pool, whose devices and least sizes are ``present``; durable.

        Nothing is deleted from the pool: a device that is unknown is quarantined, one that is missing is called lost,
        what may have been formatted since is never formatted. Return what was changed, a line each.
        """
        said = []
        with self._transaction(durable=True):
            rows = [self._parse(row) for row in self._db.execute(f"SELECT {_COLUMNS} FROM device").fetchall()]  # noqa: S608
            uncut = {row[0] for row in self._db.execute("SELECT group_id FROM snapshot_group WHERE cut = 0").fetchall()}
            for device in rows:
                said += self._reconcile(device, present, unsure=device.group in uncut and device.group is not None)
            self._db.execute("DELETE FROM snapshot_group WHERE cut = 0")
            known = {device.handle.thin for device in rows}
            for thin, size in sorted(present.items()):
                if thin not in known:
                    self._db.execute(
                        f"INSERT INTO device ({_COLUMNS}) VALUES"  # noqa: S608 - constant
                        " (?, 'quarantined', 'ready', NULL, ?, NULL, '', NULL, 'unknown', NULL, 1, 'auto', 0, ?)",
                        (thin, size, time.time_ns()),
                    )
                    said.append(f"{Handle(self._pool, thin)}: not in the catalog, quarantined")
        return said

    # -- inside -------------------------------------------------------------------------------------------------

    def _reconcile(self, device: Device, present: dict[ThinId, Bytes], *, unsure: bool) -> list[str]:
        thin = device.handle.thin
        if device.state is State.DELETING:
            return []
        if thin not in present:
            if device.state in (State.CREATING, State.CUTTING):
                self._db.execute("DELETE FROM device WHERE thin_id = ?", (thin,))
                return [f"{device.handle}: was never made, dropped"]
            if device.state is State.LOST:
                return []
            self._db.execute("UPDATE device SET state = 'lost' WHERE thin_id = ?", (thin,))
            return [f"{device.handle}: not in the pool, its data is lost"]
        if unsure or device.state is State.CUTTING:
            self._quarantine(thin)
            return [f"{device.handle}: its point in time is not known, quarantined"]
        said = []
        if device.state is not State.READY:
            self._db.execute("UPDATE device SET state = 'ready' WHERE thin_id = ?", (thin,))
            said.append(f"{device.handle}: in the pool, taken as {State.READY}")
        if device.fs_state in (FsState.UNFORMATTED, FsState.FORMATTING):
            self._db.execute("UPDATE device SET fs_state = 'unknown' WHERE thin_id = ?", (thin,))
            said.append(f"{device.handle}: may have been formatted since, will be used as it is")
        if present[thin] > device.size:
            self._db.execute("UPDATE device SET size = ? WHERE thin_id = ?", (present[thin], thin))
            said.append(f"{device.handle}: holds data beyond {device.size} bytes, size raised to {present[thin]}")
        return said

    def _quarantine(self, thin: ThinId) -> None:
        self._db.execute(
            "UPDATE device SET kind = 'quarantined', state = 'ready', name = NULL, group_id = NULL WHERE thin_id = ?",
            (thin,),
        )

    def _raise(self, covered: int) -> int:
        """Raise the ceiling by one id and return it."""
        self._db.execute("UPDATE pool SET ceiling = ceiling + 1, covered = max(covered, ?)", (covered,))
        (ceiling,) = self._db.execute("SELECT ceiling FROM pool").fetchone()
        return int(ceiling)

    def _fill(self, block_size: Bytes, ceiling: int) -> None:
        _prepare(self._db)
        schema = files("csi.catalog").joinpath("schema.sql").read_text(encoding="utf-8")
        self._db.executescript(f"BEGIN IMMEDIATE;\n{schema}\nPRAGMA user_version = {SCHEMA_VERSION};\nCOMMIT;")
        with self._transaction(durable=True):
            self._db.execute(
                "INSERT INTO pool (one, pool_id, ceiling, covered, next_id, block_size) VALUES (1, ?, ?, 0, ?, ?)",
                (self._pool, ceiling, ceiling, block_size),
            )

    @contextmanager
    def _reading(self) -> Iterator[None]:
        with self._lock:
            try:
                yield
            except sqlite3.Error as error:
                raise self._unavailable("read catalog", error) from error

    def _unavailable(self, operation: str, error: sqlite3.Error) -> UnavailableError:
        way_out = "look at the space and the health of the catalog's file system"
        return UnavailableError(operation, self._pool, str(error), way_out=way_out)

    @contextmanager
    def _transaction(self, *, durable: bool) -> Iterator[None]:
        """Hold the lock and a write transaction; commit at the end, roll back on an exception.

        In WAL mode ``synchronous = FULL`` makes each commit fsync the log and ``NORMAL`` leaves that to the next full
        commit or checkpoint (https://www.sqlite.org/pragma.html#pragma_synchronous); the order is kept.
        """
        with self._lock:
            try:
                self._db.execute(f"PRAGMA synchronous = {'FULL' if durable else 'NORMAL'}")
                self._db.execute("BEGIN IMMEDIATE")
                yield
                self._db.execute("COMMIT")
            except sqlite3.Error as error:
                self._roll_back()
                raise self._unavailable("write catalog", error) from error
            except BaseException:
                self._roll_back()
                raise

    def _roll_back(self) -> None:
        if self._db.in_transaction:
            self._db.execute("ROLLBACK")

    def _device(self, thin: ThinId) -> Device | None:
        row = self._db.execute(f"SELECT {_COLUMNS} FROM device WHERE thin_id = ?", (thin,)).fetchone()  # noqa: S608
        return self._parse(row) if row else None

    def _known(self, thin: ThinId) -> Device:
        device = self._device(thin)
        if device is None:
            raise DataLossError("read catalog", str(Handle(self._pool, thin)), "a row just written is not there")
        return device

    def _group(self, row: tuple[int, str, int]) -> Group:
        members = self._db.execute(
            f"SELECT {_COLUMNS} FROM device WHERE group_id = ? ORDER BY thin_id",  # noqa: S608 - constant
            (row[0],),
        ).fetchall()
        handle = GroupHandle(self._pool, GroupId(row[0]))
        return Group(handle, row[1], row[2], tuple(self._parse(member) for member in members))

    def _parse(self, row: tuple[object, ...]) -> Device:
        (thin, kind, state, name, size, origin, source, group, fs_state, fs_type, unique, profile, ephemeral, made) = (
            row
        )
        return Device(
            handle=Handle(self._pool, ThinId(int(str(thin)))),
            kind=Kind(str(kind)),
            state=State(str(state)),
            name=None if name is None else str(name),
            size=Bytes(int(str(size))),
            origin=None if origin is None else ThinId(int(str(origin))),
            content_source=str(source),
            group=None if group is None else GroupId(int(str(group))),
            fs_state=FsState(str(fs_state)),
            fs_type=None if fs_type is None else FsType(str(fs_type)),
            fs_unique=bool(unique),
            mkfs_profile=str(profile),
            ephemeral=bool(ephemeral),
            created=int(str(made)),
        )


def _examine(connection: sqlite3.Connection, path: Path, pool: PoolId) -> None:
    """See that the database can serve as this pool's catalog. Raise DataLossError, UnavailableError."""
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if version == 0:
        raise _damaged(path, "it is empty")
    if version != SCHEMA_VERSION:
        why = f"its version is {version}, not {SCHEMA_VERSION}"
        raise UnavailableError("open catalog", str(path), why, way_out="start the version of the driver that wrote it")
    (verdict,) = connection.execute("PRAGMA quick_check(1)").fetchone()
    if verdict != "ok":
        raise _damaged(path, verdict)
    row = connection.execute("SELECT pool_id FROM pool").fetchone()
    if row is None:
        raise _damaged(path, "it names no pool")
    if row[0] != pool:
        why, way_out = f"it belongs to pool {row[0]}, not to {pool}", "put the pool's own catalog back"
        raise UnavailableError("open catalog", str(path), why, way_out=way_out)


def _unreadable(path: Path, error: sqlite3.Error) -> DriverError:
    """Tell a file that is no whole database from one that cannot be read now."""
    # The lower byte: https://www.sqlite.org/rescode.html, "Primary Result Codes versus Extended Result Codes".
    if getattr(error, "sqlite_errorcode", 0) & 0xFF in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
        return _damaged(path, str(error))
    way_out = "look at the catalog's file system, and for another process that has it open"
    return UnavailableError("open catalog", str(path), str(error), way_out=way_out)


def _damaged(path: Path, why: str) -> DataLossError:
    return DataLossError("open catalog", str(path), f"damaged: {why}", way_out=_REBUILD)


def _connect(path: str) -> sqlite3.Connection:
    """Open a database for one process and many threads."""
    # Autocommit: transactions are begun by hand, so that no statement begins one unseen.
    return sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=2.0)


def _prepare(connection: sqlite3.Connection) -> None:
    """Set the connection up. ``locking_mode = EXCLUSIVE`` keeps a second process out and needs no shared memory."""
    connection.execute("PRAGMA locking_mode = EXCLUSIVE")
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA foreign_keys = ON")


def _sync(path: Path) -> None:

    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
