"""What a node of a cluster makes of what others tell, before it touches a disk."""

from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest

from csi.agent.cluster import Cluster, Contact
from csi.agent.memory import Memory
from csi.errors import PoolGoneError
from csi.kube.api import Api
from csi.model import PoolId
from csi.settings import PoolSpec
from tests.unit.kube.fake import FakeApi

if TYPE_CHECKING:
    from csi.agent.agent import Agent
    from csi.volumes.node import Node

NODES = "/apis/thinpool-csi.dev/v1alpha1/thinpoolnodes"
POOL_ID, OTHER = PoolId("aaaaaaaaaa"), PoolId("bbbbbbbbbb")
WANTS = PoolSpec("fast", devices=("/dev/sdb",), adopt=frozenset({POOL_ID, OTHER}))


@pytest.fixture
def cluster(api: Api, tmp_path: Path) -> Cluster:
    wanted = SimpleNamespace(by_name=lambda _name: None)
    node = SimpleNamespace(name="here", wanted=wanted, closed={}, pools={})
    contact = Contact("10.0.0.1:1", lambda: "")
    return Cluster(cast("Node", node), cast("Agent", None), api, contact, Memory(tmp_path / "wanted.json"))


def thin_pool_node(node: str, pool_id: str, ready: str) -> dict[str, Any]:
    return {
        "metadata": {"name": f"fast.{node}", "uid": "u"},
        "spec": {"poolName": "fast", "nodeName": node},
        "status": {"poolID": pool_id, "conditions": [{"type": "Ready", "status": ready}]},
    }


def test_a_pool_that_another_node_serves_is_not_adopted(cluster: Cluster, fake_api: FakeApi) -> None:
    """Both may see its disk."""
    fake_api.objects[f"{NODES}/fast.there"] = thin_pool_node("there", POOL_ID, "True")
    assert cluster._without_served(WANTS).adopt == {OTHER}


@pytest.mark.parametrize("ready", ["False", "Unknown"])
def test_one_whose_node_is_away_or_has_its_disks_no_more_is_adopted(
    cluster: Cluster, fake_api: FakeApi, ready: str
) -> None:
    fake_api.objects[f"{NODES}/fast.there"] = thin_pool_node("there", POOL_ID, ready)
    fake_api.objects[f"{NODES}/fast.here"] = thin_pool_node("here", OTHER, "True")
    assert cluster._without_served(WANTS) == WANTS


def test_nothing_is_adopted_while_it_is_not_known_who_serves_what(cluster: Cluster, fake_api: FakeApi) -> None:
    fake_api.down = True
    assert cluster._without_served(WANTS).adopt == frozenset()


def test_a_pool_that_leaves_and_is_on_no_disk_is_gone(cluster: Cluster) -> None:

    mine = thin_pool_node("here", POOL_ID, "False")
    assert not cluster._is_gone(mine)
    node = cast("Any", cluster._node)
    node.closed = {"fast": PoolGoneError("open pool", "fast", "it is gone")}
    assert not cluster._is_gone(mine)
    mine["metadata"]["deletionTimestamp"] = "now"
    assert cluster._is_gone(mine)
