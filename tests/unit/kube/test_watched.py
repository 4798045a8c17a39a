"""A watched collection is as the cluster last said, whatever becomes of the connection."""

import threading
import time
from collections.abc import Callable

import pytest

from csi.kube import watched
from csi.kube.api import Api
from csi.kube.resources import THIN_POOLS
from csi.kube.watched import Watched
from tests.unit.kube.fake import FakeApi
from tests.unit.kube.test_api import POOLS, named


@pytest.fixture(autouse=True)
def no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watched, "_FIRST_PAUSE", 0.01)


def wait_for(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_it_has_what_was_there_and_follows_what_happens(api: Api, fake: FakeApi) -> None:
    fake.objects[f"{POOLS}/a"] = named("a")
    changed = threading.Event()
    pools = Watched(api, THIN_POOLS, changed.set)
    pools.start()
    assert pools.synced.wait(10)
    assert changed.wait(10)
    assert pools.objects() == [named("a")]
    fake.watches.put(
        [
            {"type": "ADDED", "object": named("b", "8")},
            {"type": "MODIFIED", "object": named("a", "9")},
            {"type": "DELETED", "object": named("b", "10")},
        ]
    )
    wait_for(lambda: pools.objects() == [named("a", "9")])
    assert pools.get("b") is None
    # The next watch goes on from there.
    wait_for(lambda: any("resourceVersion=10" in path for _, path, _ in fake.requests))
    pools.stop()
    fake.watches.put([])


def test_it_lists_again_when_the_server_has_forgotten(api: Api, fake: FakeApi) -> None:
    fake.objects[f"{POOLS}/a"] = named("a")
    pools = Watched(api, THIN_POOLS)
    pools.start()
    assert pools.synced.wait(10)
    fake.objects = {f"{POOLS}/b": named("b")}
    fake.watches.put([{"type": "ERROR", "object": {"code": 410, "message": "too old"}}])
    wait_for(lambda: pools.objects() == [named("b")])
    pools.stop()
    fake.watches.put([])


def test_what_cannot_be_reached_stays_as_it_was(api: Api, fake: FakeApi) -> None:
    fake.objects[f"{POOLS}/a"] = named("a")
    fake.answers = [(500, {"message": "starting"}), (503, {})]
    pools = Watched(api, THIN_POOLS)
    pools.start()
    assert pools.synced.wait(10)
    fake.watches.put([{"type": "ERROR", "object": {"code": 500, "message": "etcd"}}])
    wait_for(lambda: sum("watch" in path for _, path, _ in fake.requests) > 1)
    assert pools.objects() == [named("a")]
    pools.stop()
    fake.watches.put([])


def test_a_fault_of_who_is_told_ends_no_watch(api: Api, fake: FakeApi) -> None:
    fake.objects[f"{POOLS}/a"] = named("a")
    told: list[int] = []

    def changed() -> None:
        told.append(len(told))
        if len(told) == 1:
            raise RuntimeError

    pools = Watched(api, THIN_POOLS, changed)
    pools.start()
    wait_for(lambda: len(told) > 1)
    fake.watches.put([{"type": "ADDED", "object": named("b", "8")}])
    wait_for(lambda: pools.objects() == [named("a"), named("b", "8")])
    pools.stop()
    fake.watches.put([])
