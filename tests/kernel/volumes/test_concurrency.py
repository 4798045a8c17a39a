"""Requests at once: for one object one works and the others are told to come back; a shared source is no reason."""

import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest

from csi.errors import BusyError, StateError
from csi.units import KIB, MIB
from csi.volumes import group, making, staging
from csi.volumes.requests import Access, VolumeRequest
from tests.kernel.conftest import wait_until
from tests.kernel.volumes.gate import GateAt
from tests.kernel.volumes.served import SIZE, Served

_CLONES = 50


def test_of_two_requests_for_one_volume_name_one_works(
    served: Served, executor: ThreadPoolExecutor, gate_at: GateAt
) -> None:
    with gate_at(making, "create.after-reserve").held(executor, lambda: served.create("v")) as first:
        with pytest.raises(BusyError, match="another operation"):
            served.create("v")
        with pytest.raises(BusyError):
            served.create("v", SIZE * 2)
    assert served.create("v") == first.result()
    assert served.node.volumes() == [first.result()]


def test_of_two_requests_for_one_snapshot_name_one_works(
    served: Served, executor: ThreadPoolExecutor, gate_at: GateAt
) -> None:
    source = served.create("v").handle
    gate = gate_at(making, "create.after-reserve")
    with (
        gate.held(executor, lambda: served.node.create_snapshot("s", source)) as first,
        pytest.raises(BusyError, match="another operation"),
    ):
        served.node.create_snapshot("s", source)
    assert served.node.create_snapshot("s", source) == first.result()
    assert served.node.snapshots() == [first.result()]


def test_of_two_requests_for_one_group_name_one_works(
    served: Served, executor: ThreadPoolExecutor, gate_at: GateAt
) -> None:
    sources = [served.create(name).handle for name in ("a", "b")]
    gate = gate_at(group, "group.half-cut")
    with (
        gate.held(executor, lambda: served.node.create_group("g", sources)) as first,
        pytest.raises(BusyError, match="another operation"),
    ):
        served.node.create_group("g", sources)
    assert served.node.create_group("g", sources) == first.result()


def test_fifty_clones_of_one_volume_in_use_at_once_all_work(served: Served, executor: ThreadPoolExecutor) -> None:
    source = served.create("v")
    place = Path(served.staged(source))
    place.joinpath("kept").write_bytes(b"k" * MIB)
    stop = threading.Event()

    def write() -> int:
        count = 0
        with place.joinpath("busy").open("wb", buffering=0) as file:
            while not stop.is_set():
                file.seek(count % 64 * 4 * KIB)
                file.write(bytes([count % 256]) * 4 * KIB)
                count += 1
        return count

    writer = executor.submit(write)
    everybody = threading.Barrier(_CLONES - 1, timeout=30)

    def clone(number: int) -> object:
        everybody.wait()
        while True:
            # On a slow machine a turn comes too late for the last of them, who come again.
            with suppress(BusyError):
                return served.copy(f"c{number}", source.handle).handle

    # One thread is the writer's: 49 start together, the last is clone 50.
    made = list(executor.map(clone, range(_CLONES - 1)))
    made.append(served.copy(f"c{_CLONES - 1}", source.handle).handle)
    stop.set()
    assert writer.result(30) > 0
    assert len(set(made)) == _CLONES
    assert len(served.node.volumes()) == _CLONES + 1
    for number in (0, 17, _CLONES - 1):
        copy = served.copy(f"c{number}", source.handle)
        assert Path(served.staged(copy), "kept").read_bytes() == b"k" * MIB
        served.unstage(copy)


def test_one_target_is_taken_by_one_request_at_a_time(
    served: Served, executor: ThreadPoolExecutor, gate_at: GateAt
) -> None:
    volumes = [served.create(name) for name in ("a", "b")]
    places = [served.staged(each) for each in volumes]
    target = served.path("target")

    def publish(number: int) -> None:
        served.node.publish(volumes[number].handle, places[number], target, Access(), readonly=False)

    with gate_at(staging, "publish.after-target").held(executor, lambda: publish(0)):
        for number in (0, 1):
            with pytest.raises(BusyError, match="another operation"):
                publish(number)
        with pytest.raises(BusyError):
            served.node.unpublish(str(volumes[0].handle), target)
    publish(0)
    with pytest.raises(StateError, match="is mounted there"):
        publish(1)
    with pytest.raises(StateError, match="is mounted there"):
        served.node.unpublish(str(volumes[1].handle), target)
    served.node.unpublish(str(volumes[0].handle), target)
    publish(1)


def test_a_volume_that_is_being_staged_is_neither_deleted_nor_staged_again(
    served: Served, executor: ThreadPoolExecutor, gate_at: GateAt
) -> None:
    made = served.create("v")
    with gate_at(staging, "stage.after-activate").held(executor, lambda: served.staged(made)) as first:
        for request in (
            lambda: served.node.delete_volume(made.handle),
            lambda: served.node.stage(made.handle, served.path(f"staged-{made.handle}"), Access()),
            lambda: served.node.unstage(made.handle, served.path(f"staged-{made.handle}")),
            lambda: served.node.expand_volume(made.handle, SIZE * 2, SIZE * 0),  # type: ignore[arg-type]
        ):
            with pytest.raises(BusyError, match="another operation"):
                request()
    Path(str(first.result()), "file").write_text("x")
    with pytest.raises(StateError, match="in use"):
        served.node.delete_volume(made.handle)


def test_many_different_requests_at_once_leave_exactly_what_was_asked_for(
    served: Served, executor: ThreadPoolExecutor
) -> None:
    kept = [served.create(f"kept-{number}") for number in range(4)]

    def work(number: int) -> None:
        made = served.node.create_volume(VolumeRequest(f"w{number}", SIZE))
        copy = served.copy(f"x{number}", kept[number % 4].handle)
        snapshot = served.node.create_snapshot(f"s{number}", kept[number % 4].handle)
        served.staged(copy)
        served.unstage(copy)
        served.node.delete_volume(made.handle)
        served.node.delete_volume(copy.handle)
        served.node.delete_snapshot(snapshot.handle)

    list(executor.map(work, range(16)))
    assert served.node.volumes() == kept
    assert served.node.snapshots() == []
    wait_until(lambda: not served.pool.catalog.counts().deleting, 30)
    assert served.node.check().findings == ()
