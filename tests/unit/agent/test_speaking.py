"""Who speaks for a pool whose node is silent or does not know better, and that it is not said twice."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from csi.agent.speaking import speak
from csi.agent.status import conditions

EARLY, LATER, NOW = "2026-01-01T00:00:00Z", "2026-01-01T00:30:00Z", datetime(2026, 1, 1, 1, tzinfo=UTC)
LOW = {"type": "DataSpaceLow", "status": "True", "lastTransitionTime": EARLY}


def away(pool_nodes: list[Any], nodes: dict[str, Any], now: datetime) -> dict[str, Any]:
    return speak(pool_nodes, nodes, {}, now)


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


def test_whoevers_clock_is_behind_the_node_has_the_last_word() -> None:
    """Else the two would take turns as long as the clocks differ."""
    early = datetime(2025, 12, 31, 23, tzinfo=UTC)
    for controllers_clock in (early, NOW):
        (told,) = away([seat()], node("Unknown"), controllers_clock).values()
        before = {each["type"]: each for each in told}
        again = conditions([], before, 1, now=early)
        assert again[0]["status"] == "True"
        spoken = seat() | {"status": {"conditions": again}}
        assert not away([spoken], node("Unknown"), controllers_clock)


def test_it_is_said_once_and_not_of_a_lost_pool_nor_of_a_ready_node() -> None:
    assert not away([seat("Unknown")], node("Unknown"), NOW)
    assert not away([seat(lost=True)], node("Unknown"), NOW)
    assert not away([seat()], node("True"), NOW)
    assert not away([{"metadata": {"name": "fast.a"}, "spec": {"nodeName": "a"}}], node("Unknown"), NOW)


def test_a_node_that_the_cluster_does_not_know_is_away_after_a_while() -> None:
    (conditions,) = away([seat()], {}, NOW).values()
    assert conditions[0]["reason"] == "NodeUnknown"
    assert not away([seat(at="2026-01-01T00:59:00Z")], {}, NOW)


@pytest.mark.parametrize("at", ["2026-01-01T00:30:00.123456Z", "2026-01-01T02:30:00+02:00"])
def test_a_moment_may_be_written_as_the_api_allows(at: str) -> None:
    (conditions,) = away([seat()], node("Unknown", at), NOW - timedelta(hours=1)).values()
    assert conditions[0]["lastTransitionTime"] == LATER
    assert not away([seat(at=at)], node("Unknown", "2026-01-01T00:29:00Z"), NOW)


@pytest.mark.parametrize("at", ["soon", "", "0001-01-01T00:00:00+01:00", "9999-12-31T23:59:59.9-01:00"])
def test_a_moment_that_cannot_be_read_keeps_nobody_from_being_told_of(at: str) -> None:
    odd, gone = seat(at=at), seat()
    odd["metadata"], odd["spec"] = {"name": "fast.b"}, {"nodeName": "b"}
    nodes = {**node("Unknown"), "b": node("Unknown", at)["a"]}
    assert [*away([odd, gone], nodes, NOW)] == ["fast.a"]
    nodes["b"]["status"]["conditions"][0]["lastTransitionTime"] = None
    assert [*away([odd, gone], nodes, NOW)] == ["fast.a"]


CLAIMED = {"aaaaaaaaaa": ["fast.a", "fast.b"]}


def claiming() -> dict[str, Any]:
    found = seat()
    found["status"]["poolID"] = "aaaaaaaaaa"
    return found


def test_a_pool_that_two_nodes_claim_is_not_ready_and_says_who_they_are() -> None:
    (conditions,) = speak([claiming()], node("True"), CLAIMED, NOW).values()
    ready, low, conflict = conditions
    assert (ready["type"], ready["status"], ready["reason"]) == ("Ready", "False", "Conflict")
    assert low == LOW
    assert (conflict["type"], conflict["status"]) == ("Conflict", "True")
    assert "fast.a and fast.b" in conflict["message"]


def test_a_conflict_is_said_once_and_taken_back_when_it_is_over() -> None:
    told = claiming()
    (told["status"]["conditions"],) = speak([told], node("True"), CLAIMED, NOW).values()
    assert not speak([told], node("True"), CLAIMED, NOW)
    (conditions,) = speak([told], node("True"), {}, NOW).values()
    assert [each["type"] for each in conditions] == ["Ready", "DataSpaceLow"]


def test_a_conflict_of_others_is_not_told_of_a_third() -> None:
    third = claiming()
    third["metadata"]["name"] = "fast.c"
    assert not speak([third], node("True"), CLAIMED, NOW)
