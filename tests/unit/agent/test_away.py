"""Who speaks for a pool whose node is silent, and that it is not said twice."""

from datetime import UTC, datetime
from typing import Any

from csi.agent.away import away

EARLY, LATER, NOW = "2026-01-01T00:00:00Z", "2026-01-01T00:30:00Z", datetime(2026, 1, 1, 1, tzinfo=UTC)
LOW = {"type": "DataSpaceLow", "status": "True", "lastTransitionTime": EARLY}


def seat(status: str = "True", at: str = EARLY, **spec: Any) -> dict[str, Any]:  # noqa: ANN401
    ready = {"type": "Ready", "status": status, "reason": "Good", "message": "", "lastTransitionTime": at}
    return {
        "metadata": {"name": "fast.a"},
        "spec": {"nodeName": "a", **spec},
        "status": {"conditions": [ready, LOW]},
    }


def node(status: str, at: str = LATER) -> dict[str, Any]:
    return {"a": {"status": {"conditions": [{"type": "Ready", "status": status, "lastTransitionTime": at}]}}}


def test_a_node_that_went_away_after_it_spoke_leaves_it_unknown() -> None:
    for said in ("Unknown", "False"):
        (conditions,) = away([seat()], node(said), NOW).values()
        ready, low = conditions
        assert (ready["type"], ready["status"], ready["reason"]) == ("Ready", "Unknown", "NodeNotReady")
        assert ready["lastTransitionTime"] == "2026-01-01T01:00:00Z"
        assert "spec.lost" in ready["message"]
        assert low == LOW


def test_what_the_node_says_itself_stands_though_its_kubelet_is_away() -> None:
    assert not away([seat(at="2026-01-01T00:45:00Z")], node("Unknown"), NOW)


def test_it_is_said_once_and_not_of_a_lost_pool_nor_of_a_ready_node() -> None:
    assert not away([seat("Unknown")], node("Unknown"), NOW)
    assert not away([seat(lost=True)], node("Unknown"), NOW)
    assert not away([seat()], node("True"), NOW)
    assert not away([{"metadata": {"name": "fast.a"}, "spec": {"nodeName": "a"}}], node("Unknown"), NOW)


def test_a_node_that_the_cluster_does_not_know_is_away_after_a_while() -> None:
    (conditions,) = away([seat()], {}, NOW).values()
    assert conditions[0]["reason"] == "NodeUnknown"
    assert not away([seat(at="2026-01-01T00:59:00Z")], {}, NOW)
