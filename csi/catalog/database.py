"""The database of a catalog: one SQLite connection, made, opened and shared, with errors that say what to do."""

import os
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from csi.errors import DataLossError, DriverError, UnavailableError
from csi.failpoint import hit
from csi.model import PoolId
from csi.units import MIB, Bytes

SCHEMA_VERSION: Final = 2
_WITHOUT_TEMPLATES: Final = 1
"""The version before, which is brought to the present one."""
FILE_NAME: Final = "catalog.db"

_LOG: Final = 32 + 1000 * (24 + 4096)
"""Bytes. A log's header, and as many frames as SQLite lets come together before it writes them back."""
_SPARED: Final = 8 * MIB
"""Room that is left to the database itself."""

_PATIENCE: Final = 10.0
"""Seconds. A commit waits for the disk, everybody else for the commit."""
_FOR_EVER: Final = -1.0
"""As threading.Lock.acquire has it."""
_REBUILD: Final = "run 'thinpool-csi check --rebuild'"


class Database:
    """A pool's database, open. Safe for many threads, which take turns."""

    def __init__(self, connection: sqlite3.Connection, pool: PoolId) -> None:
        self._db = connection
        self._pool = pool
        self._lock = threading.Lock()
        self._flushes: bool | None = None
        """Whether the last commit flushed the disk."""
        self._file: str = connection.execute("PRAGMA database_list").fetchone()[2]

    @classmethod
    def create(cls, directory: Path | None, pool: PoolId, block_size: Bytes, ceiling: int) -> "Database":
        """Make a database in ``directory`` (None: in memory) whose ids start at ``ceiling``; durable.

        It is written under another name and renamed, so a database that exists is whole.
        """
        if directory is None:
            made = cls(_connect(":memory:"), pool)
            made._fill(block_size, ceiling)
            return made
        fresh = directory / f"{FILE_NAME}.new"
        for leftover in directory.glob(f"{FILE_NAME}.new*"):
            leftover.unlink()
        made = cls(_connect(str(fresh)), pool)
        made._fill(block_size, ceiling)
        made.close()
        _sync(fresh)
        for stale in (directory / f"{FILE_NAME}-wal", directory / f"{FILE_NAME}-shm"):
            stale.unlink(missing_ok=True)
        hit("adopt.after-catalog-written")
        fresh.rename(directory / FILE_NAME)
        _sync(directory)
        return cls.open(directory, pool)

    @classmethod
    def open(cls, directory: Path, pool: PoolId) -> "Database":
        """Open the database in ``directory``.

        Raise DataLossError if it is damaged: only then may it be given up for a new one. Raise UnavailableError if it
        is of another pool or another version, or cannot be read now.
        """
        path = directory / FILE_NAME
        try:
            _lengthen_log(path)
            connection = _connect(str(path))
        except sqlite3.Error as error:
            raise _unreadable(path, error) from error
        try:
            _prepare(connection)
            _examine(connection, path, pool)
            _migrate(connection)
        except sqlite3.Error as error:
            connection.close()
            raise _unreadable(path, error) from error
        except BaseException:
            connection.close()
            raise
        return cls(connection, pool)

    def close(self) -> None:
        """Write the log back and close; one that a disk holds up is left as it is."""
        if self._lock.acquire(timeout=_PATIENCE):
            try:
                self._db.close()
            finally:
                self._lock.release()

    @property
    def on_disk(self) -> bool:
        """Whether it outlives the process."""
        return self._file != ""

    def room(self, enough: Bytes) -> Bytes | None:
        """Return what can still be stored: what is free of the file system and within the file. None in memory.

        Within the file is only looked where the file system alone has not ``enough``. Raise UnavailableError.
        """
        if not self.on_disk:
            return None
        try:
            there = os.statvfs(self._file)
        except OSError as error:
            why = "its file system does not answer"
            raise UnavailableError("measure catalog", self._file, why, errno=error.errno or 0) from error
        free = Bytes(there.f_bavail * there.f_frsize)
        if free >= enough:
            return free
        with self.reading() as db:
            (pages,), (size,) = (db.execute(f"PRAGMA {name}").fetchone() for name in ("freelist_count", "page_size"))
        return Bytes(free + pages * size)

    @contextmanager
    def reading(self, patience: float | None = None) -> Iterator[sqlite3.Connection]:
        """Hold the lock and lend the connection. Raise UnavailableError."""
        with self._turn("read catalog", patience):
            try:
                yield self._db
            except sqlite3.Error as error:
                raise self._unavailable("read catalog", error) from error

    def touch(self) -> None:
        """Read something, however long another is at it, for ever where its disk hangs. Raise UnavailableError."""
        with self.reading(_FOR_EVER) as db:
            db.execute("SELECT ceiling FROM pool").fetchone()

    @contextmanager
    def _turn(self, operation: str, patience: float | None = None) -> Iterator[None]:
        """Hold the lock. Raise UnavailableError if the one who has it does not come to an end: its disk hangs."""
        if patience is None:
            patience = _PATIENCE
        # A lock that is free is taken without a look at the clock.
        if not self._lock.acquire(blocking=False) and not self._lock.acquire(timeout=patience):
            why = f"another has been at it for {patience:g} s"
            raise UnavailableError(operation, self._pool, why, way_out="look for a hung disk")
        try:
            yield
        finally:
            self._lock.release()

    def _unavailable(self, operation: str, error: sqlite3.Error) -> UnavailableError:
        way_out = "look at the space and the health of the catalog's file system"
        return UnavailableError(operation, self._pool, str(error), way_out=way_out)

    @contextmanager
    def transaction(self, *, durable: bool) -> Iterator[sqlite3.Connection]:
        """Hold the lock and a write transaction; commit at the end, roll back on an exception.

        In WAL mode ``synchronous = FULL`` makes each commit fsync the log and ``NORMAL`` leaves that to the next full
        commit or checkpoint (https://www.sqlite.org/pragma.html#pragma_synchronous); the order is kept.
        Raise UnavailableError.
        """
        with self._turn("write catalog"):
            try:
                if durable is not self._flushes:
                    self._db.execute(f"PRAGMA synchronous = {'FULL' if durable else 'NORMAL'}")
                    self._flushes = durable
                self._db.execute("BEGIN IMMEDIATE")
                yield self._db
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

    def _fill(self, block_size: Bytes, ceiling: int) -> None:
        _prepare(self._db)
        self._db.executescript(f"BEGIN IMMEDIATE;\n{_schema()}\nPRAGMA user_version = {SCHEMA_VERSION};\nCOMMIT;")
        with self.transaction(durable=True) as db:
            db.execute(
                "INSERT INTO pool (one, pool_id, ceiling, covered, next_id, block_size) VALUES (1, ?, ?, 0, ?, ?)",
                (self._pool, ceiling, ceiling, block_size),
            )


def _examine(connection: sqlite3.Connection, path: Path, pool: PoolId) -> None:
    """See that the database can serve as this pool's catalog. Raise DataLossError, UnavailableError."""
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if version == 0:
        raise _damaged(path, "it is empty")
    if version not in (_WITHOUT_TEMPLATES, SCHEMA_VERSION):
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


def _migrate(connection: sqlite3.Connection) -> None:
    """Bring a sound database of the version before to the present one, in one step; durable. Raise sqlite3.Error."""
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if version == SCHEMA_VERSION:
        return
    # What a column may hold can only be changed with the whole table. The triggers count its rows anew.
    _, begin, rest = _schema().partition("CREATE TABLE device ")
    steps = [
        "BEGIN IMMEDIATE",
        "ALTER TABLE pool ADD COLUMN templates INTEGER NOT NULL DEFAULT 0",
        "UPDATE pool SET volumes = 0, snapshots = 0, deleting = 0, strangers = 0, virtual = 0",
        *(f"DROP TRIGGER device_{name}" for name in ("added", "removed", "changed")),
        *(f"DROP INDEX device_{name}" for name in ("name", "open", "group")),
        "ALTER TABLE device RENAME TO device_before",
        begin + rest,
        "INSERT INTO device SELECT * FROM device_before",
        "DROP TABLE device_before",
        f"PRAGMA user_version = {SCHEMA_VERSION}",
        "COMMIT",
    ]
    connection.execute("PRAGMA synchronous = FULL")
    try:
        connection.executescript(";".join(steps))
    except sqlite3.Error:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def _schema() -> str:
    return Path(__file__).with_name("schema.sql").read_text(encoding="utf-8")


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


def _lengthen_log(path: Path) -> None:
    """Give a database that has no log one of full length: a commit that lengthens a file costs twice as much.

    What follows the last frame is none, be it zeros (https://www.sqlite.org/fileformat2.html#wal_file_format). Where
    there is little room it grows as SQLite has it grow.
    """
    log = path.with_name(f"{path.name}-wal")
    if log.exists() or not path.exists():
        return
    try:
        there = os.statvfs(path)
        if there.f_bavail * there.f_frsize < _LOG + _SPARED:
            return
        with log.open("xb") as file:
            file.write(bytes(_LOG))
            file.flush()
            os.fsync(file.fileno())
    except OSError:
        # Nothing of anybody's is in it. What ails the disk, SQLite finds out by itself.
        log.unlink(missing_ok=True)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
