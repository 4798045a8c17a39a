"""The store: what a pool's catalog knows and how it changes, as transactions that are durable where they must be."""

import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

from csi.catalog.claiming import add_lost, insert, stranger, take_up, update
from csi.catalog.database import Database
from csi.catalog.reconcile import reconcile
from csi.catalog.row import COLUMNS, Counts, Draft, parse
from csi.errors import NoSpaceError
from csi.model import (
    SENTINEL,
    THIN_ID_LIMIT,
    Claim,
    Device,
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

_READ: Final = 512
"""Rows that are read at once: a page of most lists, and one more."""
ID_BATCH: Final = 64
"""Thin ids reserved at a time. A start begins a new batch: what was reserved and not handed out is lost to it."""

_NEXT_IDS: Final = (
    "UPDATE pool SET next_id = next_id + :count, covered = max(covered, :covered),"
    " ceiling = iif(next_id + :count > ceiling, min(max(next_id + :count, ceiling + :batch), :limit), ceiling)"
    " RETURNING next_id, ceiling, virtual"
)

Admit = Callable[[Bytes], None]
"""Is told how much is promised so far (the sizes of all volumes together), and raises if it lets no more in."""


def anything(_promised: Bytes) -> None:
    """Let everything in."""


class Catalog:
    """A pool's catalog, open. Safe for many threads; calls are short and take turns.

    A method that changes something says whether it is durable when it returns. What is not durable yet may be lost by
    a power cut (never by the death of the process), and only where recovery comes to the same result without it.
    """

    def __init__(self, database: Database, pool: PoolId) -> None:
        self._db = database
        self._pool = pool

    @classmethod
    def create(cls, directory: Path | None, pool: PoolId, block_size: Bytes, ceiling: int) -> "Catalog":
        """Make a catalog in ``directory`` (None: in memory) whose ids start at ``ceiling``; durable."""
        return cls(Database.create(directory, pool, block_size, ceiling), pool)

    @classmethod
    def open(cls, directory: Path, pool: PoolId) -> "Catalog":
        """Open the catalog in ``directory``. Raise DataLossError and UnavailableError as :meth:`Database.open` does."""
        return cls(Database.open(directory, pool), pool)

    @property
    def on_disk(self) -> bool:
        """Whether it outlives the process; False for the stand-in of a lost one."""
        return self._db.on_disk

    def close(self) -> None:
        """Write the log back and close."""
        self._db.close()

    def room(self, enough: Bytes) -> Bytes | None:
        """Return what can still be stored, or some of it that is ``enough``; None in memory. Raise UnavailableError."""
        return self._db.room(enough)

    # -- reading ------------------------------------------------------------------------------------------------

    def device(self, thin: ThinId) -> Device | None:
        """Return the device with this thin id."""
        with self._db.reading() as db:
            return self._device(db, thin)

    def named(self, kind: Kind, name: str, *, ephemeral: bool = False) -> Device | None:
        """Return the device that was given this name."""
        with self._db.reading() as db:
            row = db.execute(
                f"SELECT {COLUMNS} FROM device WHERE kind = ? AND ephemeral = ? AND name = ?",  # noqa: S608 - constant
                (kind, ephemeral, name),
            ).fetchone()
        return parse(self._pool, row) if row else None

    def devices(self, *, kind: Kind | None = None, state: State | None = None) -> list[Device]:
        """Return all devices of a kind or in a state, by thin id, read as ``each`` reads them."""
        return list(self.each(kind=kind, state=state))

    def each(
        self, *, kind: Kind | None = None, state: State | None = None, after: ThinId = SENTINEL
    ) -> Iterator[Device]:
        """Yield all devices of a kind or in a state by thin id, those above ``after``.

        They are read a few at a time: ten thousand at once take 10 MiB. So what changes meanwhile may be seen or not.
        """
        while True:
            with self._db.reading() as db:
                rows = db.execute(
                    f"SELECT {COLUMNS} FROM device WHERE thin_id > ?"  # noqa: S608 - constant
                    " AND kind = ifnull(?, kind) AND state = ifnull(?, state) ORDER BY thin_id LIMIT ?",
                    (after, kind, state, _READ),
                ).fetchall()
            device = None
            for row in rows:
                device = parse(self._pool, row)
                yield device
            if device is None or len(rows) < _READ:
                return
            after = device.handle.thin

    def deleting(self, most: int) -> list[Device]:
        """Return up to ``most`` devices whose deletion was answered and whose space is not yet given back."""
        with self._db.reading() as db:
            rows = db.execute(
                f"SELECT {COLUMNS} FROM device WHERE state = 'deleting' LIMIT ?",  # noqa: S608 - constant
                (most,),
            ).fetchall()
        return [parse(self._pool, row) for row in rows]

    def group(self, group: GroupId) -> Group | None:
        """Return the group snapshot with this number, if all of it was cut."""
        with self._db.reading() as db:
            row = db.execute(
                "SELECT group_id, name, created FROM snapshot_group WHERE group_id = ? AND cut = 1", (group,)
            ).fetchone()
            return self._group(db, row) if row else None

    def group_named(self, name: str) -> tuple[Group, list[ThinId], bool] | None:
        """Return the group with this name, its sources' thin ids, and whether all of it was cut."""
        with self._db.reading() as db:
            row = db.execute(
                "SELECT group_id, name, created, sources, cut FROM snapshot_group WHERE name = ?", (name,)
            ).fetchone()
            if row is None:
                return None
            sources = [ThinId(int(part)) for part in row[3].split(",")]
            return self._group(db, row[:3]), sources, bool(row[4])

    def uncut_groups(self) -> list[Group]:
        """Return the groups that a crash left before every member was known to be cut."""
        with self._db.reading() as db:
            rows = db.execute("SELECT group_id, name, created FROM snapshot_group WHERE cut = 0").fetchall()
            return [self._group(db, row) for row in rows]

    def counts(self) -> Counts:
        """Return the totals."""
        with self._db.reading() as db:
            row = db.execute("SELECT volumes, snapshots, deleting, strangers, templates, virtual FROM pool").fetchone()
        return Counts(row[0], row[1], row[2], row[3], row[4], Bytes(row[5]))

    def touch(self) -> None:
        """Read something, however long another is at it, for ever where its disk hangs. Raise UnavailableError."""
        self._db.touch()

    def ceiling(self) -> tuple[int, int]:
        """Return the ceiling of reserved ids, and the ceiling that the kernel is known to have had."""
        with self._db.reading() as db:
            covered, ceiling = db.execute("SELECT covered, ceiling FROM pool").fetchone()
        return ceiling, covered

    def ids_left(self) -> int:
        """Return how many thin ids this pool can still hand out in its life."""
        with self._db.reading() as db:
            (following,) = db.execute("SELECT next_id FROM pool").fetchone()
        return max(0, THIN_ID_LIMIT - int(following))

    # -- changing -----------------------------------------------------------------------------------------------

    def add(
        self, drafts: Sequence[Draft], *, covered: int, group: str | None = None, admit: Admit = anything
    ) -> tuple[list[Device], int]:
        """Record the intent to make devices, each with a new thin id, if ``admit`` lets them in; durable.

        Return them and the ceiling that the kernel must have before they are made. With ``group`` they are the members
        of a new group snapshot of that name, in the order of their sources, whose number is the first member's id.
        ``covered`` is the ceiling that the kernel has now.
        Raise NoSpaceError when the pool's ids are used up, and what ``admit`` raises.
        """
        now = time.time_ns()
        with self._db.transaction(durable=True) as db:
            wanted = {"count": len(drafts), "covered": covered, "batch": ID_BATCH, "limit": THIN_ID_LIMIT}
            ((after, ceiling, promised),) = db.execute(_NEXT_IDS, wanted).fetchall()
            if after > THIN_ID_LIMIT:
                raise NoSpaceError(
                    "allocate thin id",
                    self._pool,
                    f"all {THIN_ID_LIMIT:,} ids of the pool are used up",
                    way_out="make another pool and move the volumes there",
                )
            admit(Bytes(promised))
            following = after - len(drafts)
            number = GroupId(following) if group is not None else None
            if group is not None:
                sources = ",".join(str(draft.origin) for draft in drafts)
                db.execute("INSERT INTO snapshot_group VALUES (?, ?, ?, ?, 0)", (number, group, sources, now))
            made = [
                draft.device(Handle(self._pool, ThinId(thin)), number, now)
                for thin, draft in enumerate(drafts, following)
            ]
            for device in made:
                insert(db, device)
            return made, ceiling

    def ready(self, devices: Sequence[Device]) -> list[Device]:
        """Record that devices were made; not durable (recovery finds them in the pool, and says the same)."""
        with self._db.transaction(durable=False) as db:
            db.executemany(
                "UPDATE device SET state = 'ready' WHERE thin_id = ?", [(device.handle.thin,) for device in devices]
            )
        return [replace(device, state=State.READY) for device in devices]

    def group_cut(self, group: GroupId, created: int, *, covered: int) -> tuple[Group, int]:
        """Record that every member was cut at one point in time, ``created``; durable.

        Return the group and the ceiling that the kernel must have next. The ceiling rises, so that a catalog in which
        the group is still to be taken back is known to be older.
        """
        with self._db.transaction(durable=True) as db:
            ceiling = self._raise(db, covered)
            db.execute("UPDATE snapshot_group SET cut = 1, created = ? WHERE group_id = ?", (created, group))
            db.execute("UPDATE device SET state = 'ready', created = ? WHERE group_id = ?", (created, group))
            row = db.execute(
                "SELECT group_id, name, created FROM snapshot_group WHERE group_id = ?", (group,)
            ).fetchone()
            return self._group(db, row), ceiling

    def snapshot_cut(self, device: Device, created: int, *, covered: int) -> tuple[Device, int]:
        """Record that a snapshot of a frozen origin was cut at ``created``; durable. The ceiling rises likewise."""
        with self._db.transaction(durable=True) as db:
            ceiling = self._raise(db, covered)
            db.execute(
                "UPDATE device SET state = 'ready', created = ? WHERE thin_id = ?", (created, device.handle.thin)
            )
        return replace(device, state=State.READY, created=created), ceiling

    def delete(self, devices: Sequence[Device], *, group: GroupId | None = None) -> None:
        """Record that devices are to be deleted, with their group if one is named; their names are free; durable.

        One that was quarantined since the caller looked stays: nobody knows whose it is.
        """
        with self._db.transaction(durable=True) as db:
            db.executemany(
                "UPDATE device SET state = 'deleting', name = NULL, group_id = NULL WHERE thin_id = ? AND kind = ?",
                [(device.handle.thin, device.kind) for device in devices],
            )
            if group is not None:
                db.execute("DELETE FROM snapshot_group WHERE group_id = ?", (group,))

    def quarantine(self, device: Device) -> None:
        """Record that the pool has a device of this id that is not the one that was to be made; durable."""
        with self._db.transaction(durable=True) as db:
            db.execute(
                "UPDATE device SET kind = 'quarantined', state = 'ready', name = NULL, group_id = NULL"
                " WHERE thin_id = ?",
                (device.handle.thin,),
            )

    def emptying(self, *, covered: int) -> int:
        """Record that a deleted device is about to be emptied; durable. Return the ceiling the kernel must have first.

        The ceiling rises, so that a catalog in which the device is not yet deleted is known to be older than the pool.
        """
        with self._db.transaction(durable=True) as db:
            return self._raise(db, covered)

    def forget(self, device: Device) -> None:
        """Drop the row of a device that the pool no longer has; not durable (recovery finds it gone again)."""
        with self._db.transaction(durable=False) as db:
            db.execute("DELETE FROM device WHERE thin_id = ?", (device.handle.thin,))

    def grow(self, device: Device, size: Bytes, *, covered: int, admit: Admit = anything) -> tuple[Device, int]:
        """Record a greater size, if ``admit`` allows it; durable.

        Return the device and the ceiling that the kernel must have next. The ceiling rises, so that a catalog from
        before the growth is known to be older than the pool. Raise what ``admit`` raises.
        """
        with self._db.transaction(durable=True) as db:
            (promised,) = db.execute("SELECT virtual FROM pool").fetchone()
            admit(Bytes(promised))
            ceiling = self._raise(db, covered)
            db.execute("UPDATE device SET size = ? WHERE thin_id = ?", (size, device.handle.thin))
        return replace(device, size=size), ceiling

    def formatting(self, device: Device) -> None:
        """Record that mkfs is about to run; durable."""
        with self._db.transaction(durable=True) as db:
            db.execute("UPDATE device SET fs_state = 'formatting' WHERE thin_id = ?", (device.handle.thin,))

    def formatted(self, device: Device, fs_type: FsType, *, covered: int) -> int:
        """Record that there is a file system; durable. Return the ceiling that the kernel must have next.

        The ceiling rises, so that a catalog in which this volume may still be formatted is known to be older.
        """
        with self._db.transaction(durable=True) as db:
            ceiling = self._raise(db, covered)
            db.execute(
                "UPDATE device SET fs_state = 'formatted', fs_type = ? WHERE thin_id = ?", (fs_type, device.handle.thin)
            )
        return ceiling

    def fs_renewed(self, device: Device) -> None:
        """Record that the file system's UUID is its own; durable."""
        with self._db.transaction(durable=True) as db:
            db.execute("UPDATE device SET fs_unique = 1 WHERE thin_id = ?", (device.handle.thin,))

    def begin_at(self, ceiling: int) -> None:
        """Let the next id be ``ceiling`` and record that the kernel has that ceiling; durable.

        Done at each start: whatever happened to a catalog in between, an id below the kernel's number is never
        handed out again.
        """
        with self._db.transaction(durable=True) as db:
            db.execute(
                "UPDATE pool SET next_id = max(next_id, ?), ceiling = max(ceiling, ?), covered = ?",
                (ceiling, ceiling, ceiling),
            )

    def rebuild(self, present: dict[ThinId, Bytes], claims: Sequence[Claim] = ()) -> list[str]:
        """Make the catalog agree with the pool, whose devices and least sizes are ``present``; durable.

        Nothing is deleted from the pool: a device that is unknown is quarantined unless it is claimed, one that is
        missing is called lost, what may have been formatted since is never formatted. No id that is claimed is handed
        out again. Return what was changed, a line each.
        """
        said: list[str] = []
        with self._db.transaction(durable=True) as db:
            rows = [parse(self._pool, row) for row in db.execute(f"SELECT {COLUMNS} FROM device").fetchall()]  # noqa: S608
            uncut = {row[0] for row in db.execute("SELECT group_id FROM snapshot_group WHERE cut = 0").fetchall()}
            known = set()
            for device in rows:
                changed, lines = reconcile(device, present.get(device.handle.thin), unsure=device.group in uncut)
                said += lines
                if changed is None:
                    db.execute("DELETE FROM device WHERE thin_id = ?", (device.handle.thin,))
                    continue
                known.add(device.handle.thin)
                if changed != device:
                    update(db, changed)
            db.execute("DELETE FROM snapshot_group WHERE cut = 0")
            for thin, size in sorted(present.items()):
                if thin not in known:
                    insert(db, stranger(Handle(self._pool, thin), size))
                    said.append(f"{Handle(self._pool, thin)}: not in the catalog, quarantined")
            for claim in claims:
                if claim.handle.thin not in known | present.keys():
                    add_lost(db, claim)
                    said.append(f"{claim.handle}: not in the pool, its data is lost")
            if claims:
                above = max(claim.handle.thin for claim in claims) + 1
                db.execute("UPDATE pool SET next_id = max(next_id, ?), ceiling = max(ceiling, ?)", (above, above))
            said += take_up(db, self._pool, claims)
        return said

    def claim(self, claims: Sequence[Claim]) -> list[str]:
        """Let what is in quarantine and is claimed be what the claim says; durable. Return what was changed."""
        with self._db.transaction(durable=True) as db:
            return take_up(db, self._pool, claims)

    # -- inside -------------------------------------------------------------------------------------------------

    def _raise(self, db: sqlite3.Connection, covered: int) -> int:
        """Raise the ceiling by one id and return it."""
        raised = "UPDATE pool SET ceiling = ceiling + 1, covered = max(covered, ?) RETURNING ceiling"
        ((ceiling,),) = db.execute(raised, (covered,)).fetchall()
        return int(ceiling)

    def _device(self, db: sqlite3.Connection, thin: ThinId) -> Device | None:
        row = db.execute(f"SELECT {COLUMNS} FROM device WHERE thin_id = ?", (thin,)).fetchone()  # noqa: S608
        return parse(self._pool, row) if row else None

    def _group(self, db: sqlite3.Connection, row: tuple[int, str, int]) -> Group:
        members = db.execute(
            f"SELECT {COLUMNS} FROM device WHERE group_id = ? ORDER BY thin_id",  # noqa: S608 - constant
            (row[0],),
        ).fetchall()
        handle = GroupHandle(self._pool, GroupId(row[0]))
        return Group(handle, row[1], row[2], tuple(parse(self._pool, member) for member in members))
