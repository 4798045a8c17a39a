"""The database: changed whole or not at all, with a bound on every wait, in a log of full length."""

import errno
import os
import shutil
import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from csi.catalog.database import FILE_NAME, Database
from csi.catalog.store import Catalog
from csi.errors import UnavailableError
from csi.units import MIB
from tests.unit.catalog.drafts import POOL


def _add(database: Database, name: str, *, durable: bool = True) -> None:
    with database.transaction(durable=durable) as db:
        db.execute("INSERT INTO snapshot_group (name, sources, created, cut) VALUES (?, '', 0, 0)", (name,))


def _names(database: Database) -> set[str]:
    with database.reading() as db:
        return {row[0] for row in db.execute("SELECT name FROM snapshot_group")}


class Broken:
    """A connection whose commits fail."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def execute(self, statement: str, parameters: Any = ()) -> sqlite3.Cursor:  # noqa: ANN401 - whatever it takes
        """Do as told, except for that."""
        if statement == "COMMIT":
            raise sqlite3.OperationalError("disk I/O error")
        return self._connection.execute(statement, parameters)

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - whatever a connection has
        return getattr(self._connection, name)


def test_who_waits_for_a_commit_that_hangs_is_told(catalog: Catalog, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("csi.catalog.database._PATIENCE", 0.05)
    with (
        catalog._db.transaction(durable=True),
        ThreadPoolExecutor(1) as other,
        pytest.raises(UnavailableError, match="hung disk"),
    ):
        other.submit(catalog.counts).result()
    assert catalog.counts().volumes == 0


def test_a_commit_that_fails_changes_nothing(catalog: Catalog, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(catalog._db, "_db", Broken(catalog._db._db))
        with pytest.raises(UnavailableError, match="disk I/O error"):
            _add(catalog._db, "a")
    assert _names(catalog._db) == set()
    _add(catalog._db, "b")
    assert _names(catalog._db) == {"b"}


@pytest.mark.parametrize(("durable", "level"), [(False, 1), (True, 2)])
def test_a_commit_is_flushed_to_the_disk_where_it_must_be(catalog: Catalog, *, durable: bool, level: int) -> None:
    for each in (not durable, durable):
        _add(catalog._db, str(each), durable=each)
    with catalog._db.reading() as db:
        # https://www.sqlite.org/pragma.html#pragma_synchronous: 1 is NORMAL, 2 is FULL.
        assert db.execute("PRAGMA synchronous").fetchone() == (level,)


def test_what_waits_for_its_deletion_is_found_without_a_look_at_the_rest(catalog: Catalog) -> None:
    with catalog._db.reading() as db:
        plan = db.execute("EXPLAIN QUERY PLAN SELECT * FROM device WHERE state = 'deleting' LIMIT 1").fetchall()
    assert "device_deleting" in plan[0][3]


def _log_of(directory: Path) -> Path:
    return directory / f"{FILE_NAME}-wal"


def test_the_log_has_its_length_before_it_is_needed_and_is_read_as_if_it_had_not(
    catalog: Catalog, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    whole = _log_of(tmp_path).stat().st_size
    _add(catalog._db, "kept")
    assert _log_of(tmp_path).stat().st_size == whole > 3 * MIB
    # As a power cut leaves it: frames, and zeros behind them.
    after = tmp_path_factory.mktemp("cut")
    for name in (FILE_NAME, f"{FILE_NAME}-wal"):
        shutil.copyfile(tmp_path / name, after / name)
    with closing(Database.open(after, POOL)) as again:
        assert _names(again) == {"kept"}
        _add(again, "more")
        assert _names(again) == {"kept", "more"}


def test_a_log_that_is_full_is_written_back_and_begun_anew(catalog: Catalog, tmp_path: Path) -> None:
    whole = _log_of(tmp_path).stat().st_size
    names = {str(number) for number in range(1200)}
    for name in names:
        _add(catalog._db, name, durable=False)
    assert _names(catalog._db) == names
    assert _log_of(tmp_path).stat().st_size < whole + MIB
    catalog.close()
    with closing(Database.open(tmp_path, POOL)) as again:
        assert _names(again) == names


def _full(_descriptor: int) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def _no_room(_path: object) -> os.statvfs_result:
    return os.statvfs_result((4096, 4096, 100000, 1000, 1000, 1000, 1000, 1000, 0, 255))


@pytest.mark.parametrize(("function", "fails"), [("os.fsync", _full), ("os.statvfs", _no_room)])
def test_where_there_is_no_room_for_the_log_it_takes_none_before_it_needs_it(
    catalog: Catalog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, function: str, fails: Callable[..., object]
) -> None:
    catalog.close()
    with monkeypatch.context() as patched:
        patched.setattr(function, fails)
        opened = Database.open(tmp_path, POOL)
    with closing(opened) as again:
        _add(again, "a")
        assert _names(again) == {"a"}
        assert _log_of(tmp_path).stat().st_size < MIB


def test_a_log_that_holds_something_is_left_as_it_is(
    catalog: Catalog, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    _add(catalog._db, "kept")
    after = tmp_path_factory.mktemp("short")
    shutil.copyfile(tmp_path / FILE_NAME, after / FILE_NAME)
    _log_of(after).write_bytes(_log_of(tmp_path).read_bytes()[:100_000])
    with closing(Database.open(after, POOL)) as again:
        assert _log_of(after).stat().st_size < MIB
        assert _names(again) == {"kept"}
