"""The cluster's API away for an hour: nothing that is in use notices, and nobody knocks at its door all the time."""

import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from csi.agent.agent import Agent
from csi.agent.cluster import Cluster, Contact
from csi.agent.memory import Memory
from csi.kube.api import Api
from csi.model import Device
from csi.volumes.node import Node
from tests.faults.api.hasty import RATE, hasten, live
from tests.kernel.conftest import wait_until
from tests.kernel.volumes.conftest import MakeServed
from tests.kernel.volumes.served import NODE, Served
from tests.unit.kube.fake import FakeApi

HOUR: Final = 3600.0
_API: Final = "/apis/thinpool-csi.dev/v1alpha1"
_POOL: Final = f"{_API}/thinpools/default"
_MINE: Final = f"{_API}/thinpoolnodes/default.{NODE}"
_SELDOM: Final = 5.0
"""Seconds from one connection to the next, on an average: two watches and the status pause for 15 to 30 each."""


class Follower:
    """A node that follows the stand-in, and what a test does with its volumes meanwhile."""

    def __init__(self, served: Served, api: Api) -> None:
        self.served = served
        self._api = api
        self.start()

    def start(self) -> None:
        """Serve what the cluster wants, or what it wanted last."""
        self.node = Node(self.served.place, [])
        self._agent = Agent(self.node)
        memory = Memory(self.served.base / "wanted.json")
        self._cluster = Cluster(self.node, self._agent, self._api, Contact("10.0.0.1:1", lambda: "pem"), memory)
        self.served._node, self.served._agent = self.node, self._agent
        self._cluster.start()
        wait_until(lambda: bool(self.node.pools), 60)

    def stop(self) -> None:
        """End as the node's process does; volumes stay in use."""
        self._cluster.stop()
        self.served.stop()


@pytest.fixture
def follower(
    make_served: MakeServed, api: Api, fake_api: FakeApi, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Follower]:
    served = make_served(2048)
    pool_id, (disk,) = served.pool.id, served.spec.devices
    served.stop()
    metadata = {"name": "default", "uid": "one", "generation": 1}
    fake_api.objects[_POOL] = {"metadata": metadata, "spec": {"devices": [disk]}}
    fake_api.objects[_MINE] = {
        "apiVersion": "thinpool-csi.dev/v1alpha1",
        "kind": "ThinPoolNode",
        "metadata": {"name": f"default.{NODE}", "uid": "two"},
        "spec": {"poolName": "default", "nodeName": NODE},
        "status": {"poolID": pool_id},
    }
    hasten(monkeypatch)
    made = Follower(served, api)
    yield made
    made.stop()


def test_volumes_are_made_used_and_deleted_through_an_hour_without_the_api(
    follower: Follower, fake_api: FakeApi
) -> None:
    before, path = used_when_it_goes(follower, fake_api)
    begun = time.monotonic()
    threads, descriptors = threading.active_count(), len(os.listdir("/proc/self/fd"))
    for number in range(10):
        use(follower.served, before, number)
        live(HOUR / 10)
    assert 0 < fake_api.refused * _SELDOM < RATE * (time.monotonic() - begun)
    wait_until(lambda: threading.active_count() <= threads, 60)
    wait_until(lambda: len(os.listdir("/proc/self/fd")) <= descriptors + 2, 60)
    assert path.read_bytes() == b"before"
    what_changed_is_followed(follower, fake_api)


def test_a_node_that_starts_anew_in_that_hour_serves_what_was_wanted_last(
    follower: Follower, fake_api: FakeApi
) -> None:
    before, path = used_when_it_goes(follower, fake_api)
    for number in range(3):
        follower.stop()
        assert path.read_bytes() == b"before"
        follower.start()
        use(follower.served, before, number)
        live(HOUR / 3)
    assert fake_api.refused
    what_changed_is_followed(follower, fake_api)


def used_when_it_goes(follower: Follower, fake_api: FakeApi) -> tuple[Device, Path]:
    """Have a volume in use when the API goes away; return it, and the file in it."""
    ready(fake_api)
    volume = follower.served.create("before")
    path = Path(follower.served.staged(volume), "data")
    path.write_bytes(b"before")
    away(fake_api)
    return volume, path


def use(served: Served, volume: Device, number: int) -> None:
    """Do everything once that the cluster asks of a node."""
    made = served.create(f"made {number}")
    Path(served.staged(made), "data").write_bytes(b"made")
    snapshot = served.node.create_snapshot(f"snapshot {number}", volume.handle)
    copy = served.copy(f"copy {number}", snapshot.handle)
    assert Path(served.staged(copy), "data").read_bytes() == b"before"
    for each in (made, copy):
        served.unstage(each)
        served.node.delete_volume(each.handle)
    served.node.delete_snapshot(snapshot.handle)
    served.reclaimed()


def ready(fake_api: FakeApi) -> None:
    """Wait until the node has told of an open pool, and what it wants is known to be kept."""
    wait_until(lambda: told(fake_api).get("conditions", [{}])[0].get("status") == "True", 60)


def away(fake_api: FakeApi) -> None:
    """Break off every connection, those of watches too."""
    fake_api.down = True
    for _ in range(2):
        fake_api.watches.put([])


def what_changed_is_followed(follower: Follower, fake_api: FakeApi) -> None:
    """Let the API answer again; what happened meanwhile a watch is not told, it must list anew."""
    fake_api.objects[_POOL]["spec"]["overprovisionRatio"] = 33
    fake_api.objects[_POOL]["metadata"]["generation"] = 2
    fake_api.version = fake_api.oldest = 8
    fake_api.down = False
    wait_until(lambda: told(fake_api)["observedGeneration"] == 2, 20)
    assert follower.served.pool.spec.overprovision_ratio == 33
    assert told(fake_api)["conditions"][0]["status"] == "True"


def told(fake_api: FakeApi) -> dict[str, Any]:
    """Return the status that the node has written."""
    found: dict[str, Any] = fake_api.objects[_MINE]["status"]
    return found
