"""The database: changes that wait for the same moment share a commit and nothing else, in a log of full length."""

import errno
import os
import shutil
import sqlite3
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

import pytest

from csi.catalog.database import FILE_NAME, Database
from csi.catalog.store import Catalog
from csi.errors import NoSpaceError, UnavailableError
from csi.units import MIB
from tests.kernel.conftest import wait_until
from tests.unit.catalog.drafts import POOL

_CROWD = 8


def _named(name: str) -> Callable[[sqlite3.Connection], str]:
    def work(db: sqlite3.Connection) -> str:
        db.execute("INSERT INTO snapshot_group (name, sources, created, cut) VALUES (?, '', 0, 0)", (name,))
        return name

    return work


def _refused(db: sqlite3.Connection) -> str:
    _named("refused")(db)
    raise NoSpaceError("test", "x", "no room")


def _names(database: Database) -> set[str]:
    with database.reading() as db:
        return {row[0] for row in db.execute("SELECT name FROM snapshot_group")}


def _waiting_together(
    database: Database, works: list[Callable[[sqlite3.Connection], str]], pool: ThreadPoolExecutor, durable: str = ""
) -> tuple[list[Future[str]], list[str]]:
    """Have all of ``works`` wait for the same moment; return what comes of them, and the statements of it.

    Those are durable whose number is in ``durable``.
    """
    said: list[str] = []
    with database.transaction(durable=False) as db:
        futures = [
            pool.submit(partial(database.together, work, durable=str(number) in durable))
            for number, work in enumerate(works)
        ]
        wait_until(lambda: len(database._waiting) == len(works))
        db.set_trace_callback(said.append)
    for future in futures:
        future.exception(10)
    with database.reading() as db:
        db.set_trace_callback(None)
    return futures, said[1:]


class Broken:
    """A connection of which one commit fails."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self.fails = 0
        """The number of the commit that fails."""
        self.commits = 0

    def execute(self, statement: str, parameters: Any = ()) -> sqlite3.Cursor:  # noqa: ANN401 - whatever it takes
        """Do as told, except for that one."""
        if statement == "COMMIT":
            self.commits += 1
            if self.commits == self.fails:
                raise sqlite3.OperationalError("disk I/O error")
        return self._connection.execute(statement, parameters)

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - whatever a connection has
        return getattr(self._connection, name)


def test_those_who_wait_at_the_same_time_share_a_commit(catalog: Catalog) -> None:
    with ThreadPoolExecutor(_CROWD) as pool:
        works = [_named(str(number)) for number in range(_CROWD)]
        futures, said = _waiting_together(catalog._db, works, pool)
        assert [future.result() for future in futures] == [str(number) for number in range(_CROWD)]
    assert said.count("COMMIT") == 1
    assert _names(catalog._db) == {str(number) for number in range(_CROWD)}


def test_one_that_is_refused_leaves_the_others_alone(catalog: Catalog, tmp_path: Path) -> None:
    with ThreadPoolExecutor(_CROWD) as pool:
        futures, _ = _waiting_together(catalog._db, [_named("a"), _refused, _named("b")], pool)
        assert [futures[0].result(), futures[2].result()] == ["a", "b"]
        with pytest.raises(NoSpaceError):
            futures[1].result()
    catalog.close()
    with closing(sqlite3.connect(tmp_path / FILE_NAME)) as database:
        assert {row[0] for row in database.execute("SELECT name FROM snapshot_group")} == {"a", "b"}


@pytest.fixture
def given_up(catalog: Catalog, monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], object]], None]:
    """Return what has a call wait for a commit that hangs, and sees that it is told."""

    def give_up(call: Callable[[], object]) -> None:
        with (
            catalog._db.transaction(durable=True),
            ThreadPoolExecutor(1) as other,
            pytest.raises(UnavailableError, match="hung disk"),
        ):
            other.submit(call).result()

    monkeypatch.setattr("csi.catalog.database._PATIENCE", 0.05)
    return give_up


def test_who_waits_for_a_commit_that_hangs_is_told(
    catalog: Catalog, given_up: Callable[[Callable[[], object]], None]
) -> None:
    given_up(catalog.counts)
    assert catalog.counts().volumes == 0


def test_who_gave_up_waiting_changes_nothing_later(
    catalog: Catalog, given_up: Callable[[Callable[[], object]], None]
) -> None:
    given_up(partial(catalog._db.together, _named("late"), durable=True))
    assert catalog._db.together(_named("next"), durable=False) == "next"
    assert _names(catalog._db) == {"next"}


def test_a_commit_that_fails_fails_for_all_of_them_and_is_not_tried_again(
    catalog: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = Broken(catalog._db._db)
    with ThreadPoolExecutor(_CROWD) as pool:
        monkeypatch.setattr(catalog._db, "_db", broken)
        with catalog._db.transaction(durable=True):
            works = [_named(str(number)) for number in range(_CROWD)]
            futures = [pool.submit(partial(catalog._db.together, work, durable=True)) for work in works]
            wait_until(lambda: len(catalog._db._waiting) == _CROWD)
            # The one after the one that they wait for.
            broken.fails = 2
        for future in futures:
            with pytest.raises(UnavailableError, match="disk I/O error"):
                future.result(10)
    assert broken.commits == 2
    assert _names(catalog._db) == set()


def test_what_was_done_is_not_called_failed_by_who_waited_too_long(
    catalog: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    database = catalog._db

    def late(_operation: str) -> NoReturn:
        # Somebody else does it, and the lock is then another's.
        database._change_all()
        raise UnavailableError("write catalog", POOL, "another has been at it")

    monkeypatch.setattr(database, "_turn", late)
    assert database.together(_named("done"), durable=True) == "done"
    monkeypatch.undo()
    assert _names(database) == {"done"}


def test_what_was_broken_off_is_not_answered_as_done(catalog: Catalog, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catalog._db, "_change_all", lambda: None)
    with pytest.raises(UnavailableError, match="broken off"):
        catalog._db.together(_named("a"), durable=True)


@pytest.mark.parametrize(("durable", "level"), [("", 1), ("1", 2), ("012", 2)])
def test_a_commit_is_flushed_to_the_disk_where_one_of_them_must_be(catalog: Catalog, durable: str, level: int) -> None:
    with ThreadPoolExecutor(_CROWD) as pool:
        _, said = _waiting_together(catalog._db, [_named(name) for name in "abc"], pool, durable)
    assert said.count("COMMIT") == 1
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
    catalog._db.together(_named("kept"), durable=True)
    assert _log_of(tmp_path).stat().st_size == whole > 3 * MIB
    # As a power cut leaves it: frames, and zeros behind them.
    after = tmp_path_factory.mktemp("cut")
    for name in (FILE_NAME, f"{FILE_NAME}-wal"):
        shutil.copyfile(tmp_path / name, after / name)
    with closing(Database.open(after, POOL)) as again:
        assert _names(again) == {"kept"}
        again.together(_named("more"), durable=True)
        assert _names(again) == {"kept", "more"}


def test_a_log_that_is_full_is_written_back_and_begun_anew(catalog: Catalog, tmp_path: Path) -> None:
    whole = _log_of(tmp_path).stat().st_size
    names = {str(number) for number in range(1200)}
    for name in names:
        catalog._db.together(_named(name), durable=False)
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
        assert again.together(_named("a"), durable=True) == "a"
        assert _names(again) == {"a"}
        assert _log_of(tmp_path).stat().st_size < MIB


def test_a_log_that_holds_something_is_left_as_it_is(
    catalog: Catalog, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    catalog._db.together(_named("kept"), durable=True)
    after = tmp_path_factory.mktemp("short")
    shutil.copyfile(tmp_path / FILE_NAME, after / FILE_NAME)
    _log_of(after).write_bytes(_log_of(tmp_path).read_bytes()[:100_000])
    with closing(Database.open(after, POOL)) as again:
        assert _log_of(after).stat().st_size < MIB
        assert _names(again) == {"kept"}
