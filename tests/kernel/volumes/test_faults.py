"""Steps that fail, and not by a crash: what was recorded stays guarded, nothing is stuck, nobody's data is touched."""

import os
import sqlite3
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import NoReturn

import pytest

from csi.agent.monitor import Monitor
from csi.agent.plan import ExtendData
from csi.catalog.database import FILE_NAME
from csi.catalog.store import Catalog
from csi.dm import metadata
from csi.dm.events import EventWatch
from csi.dm.targets import Line, PoolMode
from csi.dm.thin_pool import ThinPool
from csi.errors import KernelError, UnavailableError
from csi.model import State, ThinId
from csi.settings import Autoextend
from csi.units import GIB, MIB, Bytes
from csi.volumes import making, opening, sentinel
from csi.volumes.node import Node
from csi.volumes.pool import Pool
from csi.volumes.reclaim import reclaim
from tests.kernel.volumes.conftest import MakeServed
from tests.kernel.volumes.gate import GateAt
from tests.kernel.volumes.served import SIZE, Served


@pytest.fixture(scope="module")
def module_quiet(make_module_served: MakeServed) -> Served:
    """Open a node on a pool that nobody looks after but the tests, and that can be extended."""
    return make_module_served(4 * GIB // MIB, agent=False, thinp_percent=50, overprovision_ratio=20.0)


@pytest.fixture
def quiet(module_quiet: Served, monkeypatch: pytest.MonkeyPatch) -> Iterator[Served]:
    """Lend the file's node to a test, empty before and after."""
    monkeypatch.setattr(Served, "reclaimed", lambda served: reclaim(served.pool, threading.Event()))
    yield module_quiet
    module_quiet.let(autoextend=module_quiet.spec.autoextend)
    module_quiet.clear()
    assert not module_quiet.devices()


def _fail(*_args: object, **_more: object) -> NoReturn:
    raise UnavailableError("do", "it", "the test says so")


def _number_is_covered(served: Served) -> bool:
    return served.pool.thin.status().transaction_id == served.pool.catalog.ceiling()[0]


def test_what_is_recorded_is_handed_out_only_once_the_kernel_has_its_number(
    quiet: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    volume = quiet.create("v")
    with monkeypatch.context() as patched:
        patched.setattr(ThinPool, "set_transaction_id", _fail)
        for _ in range(2):
            with pytest.raises(UnavailableError):
                quiet.node.expand_volume(volume.handle, Bytes(2 * SIZE), Bytes(0))
        with pytest.raises(UnavailableError):
            quiet.staged(volume)
    assert not _number_is_covered(quiet)
    quiet.staged(volume)
    assert _number_is_covered(quiet)


def test_a_number_that_was_raised_though_the_answer_was_an_error_is_no_obstacle(
    quiet: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    volume = quiet.create("v")
    raise_to = ThinPool.set_transaction_id

    def raised_and_failed(pool: ThinPool, old: int, new: int) -> None:
        raise_to(pool, old, new)
        _fail()

    with monkeypatch.context() as patched:
        patched.setattr(ThinPool, "set_transaction_id", raised_and_failed)
        with pytest.raises(UnavailableError):
            quiet.node.expand_volume(volume.handle, Bytes(2 * SIZE), Bytes(0))
    assert quiet.node.expand_volume(volume.handle, Bytes(2 * SIZE), Bytes(0)).size == 2 * SIZE
    assert quiet.node.expand_volume(volume.handle, Bytes(3 * SIZE), Bytes(0)).size == 3 * SIZE


def test_a_name_is_free_though_its_making_and_the_taking_back_failed(
    quiet: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = quiet.create("source")
    makers = (
        lambda: quiet.node.create_snapshot("s", source.handle),
        lambda: quiet.node.create_group("g", [source.handle]),
        lambda: quiet.copy("c", source.handle),
    )
    quiet.staged(source)
    with monkeypatch.context() as patched:
        patched.setattr(ThinPool, "create_snap", _fail)
        patched.setattr(Catalog, "delete", _fail)
        for make in makers:
            with pytest.raises(UnavailableError):
                make()
    for make in makers:
        make()
    reclaim(quiet.pool, threading.Event())
    assert {device.state for device in quiet.devices()} == {State.READY}
    assert not quiet.node.check().findings


def test_a_device_that_has_the_next_id_is_left_alone(quiet: Served) -> None:
    first = quiet.create("first")
    stranger = ThinId(first.handle.thin + 1)
    quiet.pool.thin.create_thin(stranger)
    with pytest.raises(UnavailableError, match="does not know"):
        quiet.create("second")
    with pytest.raises(UnavailableError, match="does not know"):
        quiet.create("third")
    reclaim(quiet.pool, threading.Event())
    quiet.node.check(rebuild=True)
    second = quiet.create("second")
    reclaim(quiet.pool, threading.Event())
    assert {stranger, second.handle.thin} <= metadata.thin_ids(quiet.pool.thin)


def test_what_is_made_while_check_looks_is_not_told_of_as_lost(
    quiet: Served, executor: ThreadPoolExecutor, gate_at: GateAt, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate, thin_ids = gate_at(making, "create.after-reserve"), metadata.thin_ids
    with gate.held(executor, lambda: quiet.create("v")) as first:

        def made_meanwhile(pool: ThinPool) -> set[ThinId]:
            present = thin_ids(pool)
            gate.open()
            assert first.exception(30) is None
            return present

        monkeypatch.setattr(metadata, "thin_ids", made_meanwhile)
        assert quiet.node.check().findings == ()


def test_a_deletion_is_answered_again_while_its_space_is_given_back(quiet: Served) -> None:
    volume = quiet.create("v")
    quiet.node.delete_volume(volume.handle)
    with quiet.pool.turns.turn("give back space", volume.handle.thin, patience=1):
        begun = time.monotonic()
        quiet.node.delete_volume(volume.handle)
        assert time.monotonic() - begun < 10


def test_no_device_is_emptied_before_that_is_recorded(quiet: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    volume = quiet.create("v")
    quiet.node.delete_volume(volume.handle)
    before, _ = quiet.pool.catalog.ceiling()
    with monkeypatch.context() as patched:
        patched.setattr(Pool, "healthy_status", _fail)
        assert reclaim(quiet.pool, threading.Event()) == 0
    assert reclaim(quiet.pool, threading.Event()) == 1
    assert quiet.pool.catalog.ceiling()[0] == before + 1


def test_a_catalog_that_cannot_be_read_now_is_not_given_up(quiet: Served) -> None:
    volume = quiet.create("v")
    path = quiet.pool.catalog_dir / FILE_NAME
    place, spec = quiet.place, quiet.spec
    quiet.stop()
    node = Node(place, [spec])
    with sqlite3.connect(path, isolation_level=None) as other:
        other.execute("PRAGMA locking_mode = EXCLUSIVE")
        other.execute("BEGIN IMMEDIATE")
        node.open()
        assert "locked" in str(node.closed[spec.name])
        other.execute("ROLLBACK")
    other.close()
    node.open()
    assert not node.closed
    assert node.volume(volume.handle) == volume
    node.close()
    quiet.open(agent=False)


def test_a_pool_that_takes_no_messages_is_extended_or_else_served_as_it_is(
    quiet: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    volume = quiet.create("v")
    with open(f"{quiet.staged(volume)}/f", "w", encoding="ascii") as file:
        file.write("kept")
        file.flush()
        os.fsync(file.fileno())
    name = quiet.pool.thin.name
    writable = _make_read_only(quiet, name)
    quiet.open(agent=False)
    assert quiet.pool.thin.status().mode is PoolMode.READ_WRITE
    assert not quiet.pool.guard.why

    _make_read_only(quiet, name)
    with monkeypatch.context() as patched:
        patched.setattr(opening, "_extend_full_metadata", lambda *_: None)
        quiet.open(agent=False)
    with pytest.raises(UnavailableError, match="takes no messages"):
        quiet.create("another")
    quiet.unstage(volume)
    with open(f"{quiet.staged(volume, read_only=True)}/f", encoding="ascii") as file:
        assert file.read() == "kept"
    quiet.unstage(volume)
    quiet.stop()
    _load(quiet, name, writable)
    quiet.open(agent=False)
    quiet.create("another")


def _make_read_only(served: Served, name: str) -> Line:
    """Close the pool and make it what it is when its metadata is full; return its table as it was."""
    served.stop()
    (line,) = served.control.table(name)
    metadata_node, data, block, low_water, count, *features = line.params.split()
    words = [metadata_node, data, block, low_water, str(int(count) + 1), *features, "read_only"]
    _load(served, name, Line(line.start, line.length, line.type, " ".join(words)))
    return line


def _load(served: Served, name: str, line: Line) -> None:
    served.control.load(name, [line])
    served.control.resume(name)


def test_ballast_grows_with_the_pool_and_then_rests(quiet: Served) -> None:
    quiet.pool.group.extend_data(Bytes(512 * MIB))
    with EventWatch() as watch:
        monitor = Monitor(quiet.pool, watch, threading.Event())
        deadline = time.monotonic() + 30
        while (pause := monitor.look()) < 1 and time.monotonic() < deadline:
            watch.wait(pause)
    assert pause > 1
    assert sentinel.ballast(quiet.pool) == sentinel.ballast_size(quiet.pool)
    assert sentinel.drop(quiet.pool)
    assert sentinel.ballast(quiet.pool) == 0


def test_an_extension_that_was_held_up_once_is_tried_again(quiet: Served) -> None:
    before = quiet.pool.thin.status().data_total
    with open(quiet.staged(quiet.create("v", 128 * MIB, block=True)), "r+b") as device:
        device.write(b"x" * (64 * MIB))
    quiet.let(autoextend=Autoextend(threshold=1, percent=20))
    with EventWatch() as watch:
        monitor = Monitor(quiet.pool, watch, threading.Event())
        with quiet.pool.freezing:
            monitor.look()
        assert quiet.pool.thin.status().data_total == before
        monitor.look()
    assert quiet.pool.thin.status().data_total > before


def test_an_extension_that_fails_is_an_error_and_no_end(quiet: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_step: Bytes) -> NoReturn:
        raise KernelError("extend", "it", "the test says so")

    before = quiet.pool.thin.status().data_total
    with EventWatch() as watch:
        monitor = Monitor(quiet.pool, watch, threading.Event())
        with monkeypatch.context() as patched:
            patched.setattr(quiet.pool.group, "extend_data", refuse)
            with pytest.raises(KernelError):
                monitor._extend(ExtendData(Bytes(64 * MIB)))
        monitor._extend(ExtendData(Bytes(64 * MIB)))
    assert quiet.pool.thin.status().data_total > before
