"""Devices asked for at the same time: made together, and each as if it had been alone."""

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import NoReturn

import pytest

from csi.errors import DriverError, NoSpaceError, UnavailableError
from csi.model import Device, FsState, Kind, State, ThinId
from csi.units import GIB, MIB
from csi.volumes import capacity, making
from tests.kernel.conftest import wait_until
from tests.kernel.volumes.conftest import MakeServed
from tests.kernel.volumes.gate import GateAt
from tests.kernel.volumes.served import SIZE, Served

_CROWD = 6

Futures = list[Future[Device]]


@pytest.fixture
def threads() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(_CROWD + 2) as made:
        yield made


@contextmanager
def _waiting(served: Served, threads: ThreadPoolExecutor, gate_at: GateAt) -> Iterator[Futures]:
    """Have volumes wait for one that is being made, over the body; see each of them to its end."""
    with gate_at(making, "create.after-reserve").held(threads, lambda: served.create("first")):
        others = [threads.submit(served.create, f"v{number}") for number in range(_CROWD)]
        wait_until(lambda: len(served.pool.making._waiting) == _CROWD)
        yield others
    for other in others:
        other.exception(60)


def _errors(futures: Futures) -> list[BaseException]:
    return [error for future in futures if (error := future.exception(60)) is not None]


def _as_if_never_asked_for(served: Served) -> None:
    """See that the crowd's volumes left nothing behind and can be made."""
    served.reclaimed()
    assert [each.name for each in served.devices()] == ["first"]
    assert len({served.create(f"v{number}").handle for number in range(_CROWD)}) == _CROWD
    assert not served.node.check().findings


def test_those_who_wait_share_one_commit_and_one_look_at_the_pool(
    served: Served, threads: ThreadPoolExecutor, gate_at: GateAt, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks, said = [], list[str]()
    status = served.pool.thin.status
    with _waiting(served, threads, gate_at) as others:
        # The first confirms, and is recorded as made, for itself.
        monkeypatch.setattr(served.pool.thin, "confirm", lambda text: looks.append((text, status())))
        with served.pool.catalog._db.reading() as db:
            db.set_trace_callback(said.append)
    with served.pool.catalog._db.reading() as db:
        db.set_trace_callback(None)
    assert len({other.result().handle for other in others}) == _CROWD
    assert len(looks) == 2
    assert looks[1][0].count("create_thin") == _CROWD
    assert said.count("COMMIT") == 3
    assert all(each.state is State.READY and each.fs_state is FsState.UNFORMATTED for each in served.devices())
    assert not served.node.check().findings


def test_where_there_is_room_for_some_those_are_made(
    served: Served, threads: ThreadPoolExecutor, gate_at: GateAt
) -> None:
    room = 3
    before = served.pool.spec.overprovision_ratio
    whole = capacity.promisable(served.pool, served.pool.space()) / before
    with _waiting(served, threads, gate_at) as others:
        served.let(overprovision_ratio=(1 + room) * SIZE / whole + 1e-9)
    served.let(overprovision_ratio=before)
    refused = _errors(others)
    assert len(refused) == _CROWD - room
    assert all(isinstance(error, NoSpaceError) for error in refused)
    assert served.pool.catalog.counts().virtual == (1 + room) * SIZE
    assert {error.subject for error in refused if isinstance(error, DriverError)} == {
        f"v{number}" for number, other in enumerate(others) if other.exception()
    }


def test_a_snapshot_is_made_though_the_volumes_beside_it_find_no_room(
    served: Served, threads: ThreadPoolExecutor, gate_at: GateAt
) -> None:
    source = served.create("source")
    before = served.pool.spec.overprovision_ratio
    with _waiting(served, threads, gate_at) as others:
        snapshot = threads.submit(served.node.create_snapshot, "s", source.handle)
        wait_until(lambda: len(served.pool.making._waiting) == _CROWD + 1)
        served.let(overprovision_ratio=1e-9)
    served.let(overprovision_ratio=before)
    assert len(_errors(others)) == _CROWD
    assert snapshot.result(60).kind is Kind.SNAPSHOT


def test_one_whose_id_is_taken_is_quarantined_and_the_others_are_made(
    make_served: MakeServed, threads: ThreadPoolExecutor, gate_at: GateAt
) -> None:
    served = make_served(1 * GIB // MIB, overprovision_ratio=20.0)
    with _waiting(served, threads, gate_at) as others:
        first = served.pool.catalog.named(Kind.VOLUME, "first")
        assert first is not None
        taken = ThinId(first.handle.thin + 3)
        served.pool.control.message(served.pool.thin.name, f"create_thin {taken}")
    (refused,) = _errors(others)
    assert isinstance(refused, UnavailableError)
    assert f"{taken}" in str(refused)
    assert "catalog does not know" in served.pool.guard.why
    states = {each.handle.thin: each.kind for each in served.devices()}
    assert states.pop(taken) is Kind.QUARANTINED
    assert [*states.values()] == [Kind.VOLUME] * _CROWD


def test_those_of_which_the_pool_may_have_kept_nothing_are_all_taken_back(
    served: Served, threads: ThreadPoolExecutor, gate_at: GateAt, monkeypatch: pytest.MonkeyPatch
) -> None:
    confirm = served.pool.thin.confirm

    def doubtful(text: str) -> None:
        confirm(text)
        if "," in text:
            raise UnavailableError("send message", served.pool.thin.name, "the change may be lost")

    monkeypatch.setattr(served.pool.thin, "confirm", doubtful)
    with _waiting(served, threads, gate_at) as others:
        pass
    assert [type(error) for error in _errors(others)] == [UnavailableError] * _CROWD
    _as_if_never_asked_for(served)


def test_what_cannot_be_recorded_is_told_to_each_and_tried_once(
    served: Served, threads: ThreadPoolExecutor, gate_at: GateAt, monkeypatch: pytest.MonkeyPatch
) -> None:
    tries = []
    with monkeypatch.context() as patched:

        def fail(drafts: list[object], **_: object) -> NoReturn:
            tries.append(len(drafts))
            raise UnavailableError("write catalog", "it", "disk I/O error")

        with _waiting(served, threads, gate_at) as others:
            patched.setattr(served.pool.catalog, "add", fail)
    assert [str(error) for error in _errors(others)] == ["write catalog it: disk I/O error"] * _CROWD
    assert tries == [_CROWD]
    _as_if_never_asked_for(served)


def test_what_the_pool_refuses_names_each_that_was_asked_for(
    served: Served, threads: ThreadPoolExecutor, gate_at: GateAt, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:

        def refuse(operation: str, subject: str, **_: object) -> NoReturn:
            raise UnavailableError(operation, subject, "needs a check", way_out="repair it")

        with _waiting(served, threads, gate_at) as others:
            patched.setattr(served.pool, "healthy_status", refuse)
    assert sorted(str(error) for error in _errors(others)) == [
        f"create volume v{number}: needs a check; repair it" for number in range(_CROWD)
    ]
    _as_if_never_asked_for(served)
