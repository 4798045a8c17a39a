"""Which ThinPoolNodes there should be, and when one may go."""

from datetime import UTC, datetime
from typing import Any

from csi.agent.placing import NODE_FINALIZER, POOL_FINALIZER, Placing, place

NODES = {"a": {"disk": "fast"}, "b": {}}
HELD = [POOL_FINALIZER]
NOW = datetime(2026, 1, 1, tzinfo=UTC)


def pool(*, leaving: bool = False, finalizers: list[str] | None = None, **spec: object) -> dict[str, Any]:
    metadata = {"name": "fast", "uid": "u", "finalizers": HELD if finalizers is None else finalizers}
    return {
        "apiVersion": "thinpool-csi.dev/v1alpha1",
        "metadata": metadata | ({"deletionTimestamp": "now"} if leaving else {}),
        "spec": spec,
        "status": {"nodes": 0, "ready": 0},
    }


def pool_node(
    node: str,
    *,
    leaving: bool = False,
    pool_id: str = "",
    lost: bool = False,
    ready: bool = False,
    reason: str = "",
) -> dict[str, Any]:
    metadata = {"name": f"fast.{node}", "finalizers": [NODE_FINALIZER]}
    conditions = [{"type": "Ready", "status": str(ready), "reason": reason}]
    return {
        "metadata": metadata | ({"deletionTimestamp": "now"} if leaving else {}),
        "spec": {"poolName": "fast", "nodeName": node, "lost": lost},
        "status": {"poolID": pool_id, "conditions": conditions},
    }


def placed(pools: list[Any], pool_nodes: list[Any], used: set[str] | None = None, **changes: Any) -> Placing:  # noqa: ANN401
    nodes = changes.get("nodes", NODES)
    return place(pools, pool_nodes, nodes, changes.get("drivers", set(nodes)), used or set(), changes.get("now", NOW))


def test_each_node_with_the_driver_gets_one_that_its_pool_owns() -> None:
    done = placed([pool()], [pool_node("a")])
    (made,) = done.create
    assert made["metadata"]["name"] == "fast.b"
    assert made["spec"] == {"poolName": "fast", "nodeName": "b"}
    assert made["metadata"]["finalizers"] == [NODE_FINALIZER]
    assert made["metadata"]["ownerReferences"][0]["uid"] == "u"
    assert (done.statuses["fast"]["nodes"], done.statuses["fast"]["ready"]) == (1, 0)


def test_a_selector_picks_nodes_by_their_labels() -> None:
    done = placed([pool(nodeSelector={"disk": "fast"})], [])
    assert [made["spec"]["nodeName"] for made in done.create] == ["a"]
    done = placed([pool(nodeSelector={"disk": "fast"})], [pool_node("a"), pool_node("b")])
    assert done.delete == ["fast.b"]


def test_a_node_that_is_away_keeps_what_it_has() -> None:
    done = placed([pool()], [pool_node("a"), pool_node("gone")], drivers=set())
    assert not done.create
    assert not done.delete


def test_a_pool_is_held_until_its_nodes_have_gone() -> None:
    assert placed([pool(finalizers=[])], []).hold == ["fast"]
    done = placed([pool(leaving=True)], [pool_node("a")])
    assert (done.delete, done.let_pool_go, done.create) == (["fast.a"], [], [])
    done = placed([pool(leaving=True)], [pool_node("a", leaving=True)], used={""})
    assert not done.let_pool_go
    assert placed([pool(leaving=True)], []).let_pool_go == ["fast"]
    assert placed([pool(leaving=True, finalizers=["other"])], []).let_pool_go == []


def test_one_whose_pool_is_gone_goes() -> None:
    assert placed([], [pool_node("a")]).delete == ["fast.a"]


def test_one_with_volumes_stays_until_they_are_deleted() -> None:
    leaving = pool_node("a", leaving=True, pool_id="aaaaaaaaaa")
    assert not placed([pool(leaving=True)], [leaving], {"aaaaaaaaaa"}).let_go
    assert placed([pool(leaving=True)], [leaving], {"bbbbbbbbbb"}).let_go == ["fast.a"]
    # Lost or not: what the cluster still has of it must be deleted first.
    lost = pool_node("a", leaving=True, pool_id="aaaaaaaaaa", lost=True)
    assert not placed([pool(leaving=True)], [lost], {"aaaaaaaaaa"}).let_go


def test_one_that_is_to_be_deleted_stays_until_its_node_has_removed_it_or_is_lost() -> None:
    owner = pool(leaving=True, removalPolicy="delete")
    assert not placed([owner], [pool_node("a", leaving=True, pool_id="aaaaaaaaaa")]).let_go
    assert placed([owner], [pool_node("a", leaving=True)]).let_go == ["fast.a"]
    assert placed([owner], [pool_node("a", leaving=True, pool_id="aaaaaaaaaa", lost=True)]).let_go == ["fast.a"]


def test_ready_ones_are_counted() -> None:
    status = placed([pool()], [pool_node("a", ready=True), pool_node("b")]).statuses["fast"]
    assert (status["nodes"], status["ready"]) == (2, 1)
    (ready,) = status["conditions"]
    assert (ready["status"], ready["reason"], ready["message"]) == ("False", "NodesNotReady", "see ThinPoolNode fast.b")


def test_a_pool_is_ready_when_it_is_on_all_its_nodes_and_that_is_told_once() -> None:
    both = [pool_node("a", ready=True), pool_node("b", ready=True)]
    told = pool()
    told["status"] = placed([told], both).statuses["fast"]
    (ready,) = told["status"]["conditions"]
    assert (ready["status"], ready["lastTransitionTime"]) == ("True", "2026-01-01T00:00:00Z")
    assert not placed([told], both, now=NOW.replace(day=2)).statuses
    told["status"] = placed([told], [both[0], pool_node("b")], now=NOW.replace(day=3)).statuses["fast"]
    assert told["status"]["conditions"][0]["lastTransitionTime"] == "2026-01-03T00:00:00Z"


def test_a_node_without_such_disks_is_not_waited_for() -> None:
    status = placed([pool()], [pool_node("a", ready=True), pool_node("b", reason="NoDevices")]).statuses["fast"]
    assert (status["nodes"], status["ready"], status["conditions"][0]["status"]) == (2, 1, "True")
    status = placed([pool()], [pool_node("b", reason="NoDevices")], nodes={"b": {}}).statuses["fast"]
    assert (status["conditions"][0]["status"], status["conditions"][0]["reason"]) == ("False", "NoNodes")


def test_a_pool_without_nodes_says_so() -> None:
    (ready,) = placed([pool()], [], nodes={}).statuses["fast"]["conditions"]
    assert (ready["status"], ready["reason"]) == ("False", "NoNodes")


def test_a_pool_id_that_two_claim_is_a_conflict() -> None:
    both = [pool_node("a", pool_id="aaaaaaaaaa"), pool_node("b", pool_id="aaaaaaaaaa")]
    assert placed([pool()], both).conflicts == {"aaaaaaaaaa": ["fast.a", "fast.b"]}
    assert not placed([pool()], [pool_node("a"), pool_node("b")]).conflicts


def test_one_that_was_given_up_claims_nothing_and_goes_when_another_has_its_pool() -> None:
    lost = pool_node("a", pool_id="aaaaaaaaaa", lost=True)
    assert not placed([pool()], [lost, pool_node("b", pool_id="aaaaaaaaaa")]).conflicts
    leaving = pool_node("a", pool_id="aaaaaaaaaa", lost=True, leaving=True)
    others = [leaving, pool_node("b", pool_id="aaaaaaaaaa")]
    assert placed([pool()], others, {"aaaaaaaaaa"}).let_go == ["fast.a"]
