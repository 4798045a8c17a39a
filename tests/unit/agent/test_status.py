"""Conditions as the API shows them, and what is worth telling at once."""

from datetime import UTC, datetime

from csi.agent.status import conditions, is_news
from csi.volumes.reports import Condition, Severity

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
LOW = Condition("DataSpaceLow", "little is left", Severity.DEGRADED)
FULL = Condition("PoolFull", "nothing is left", Severity.INACCESSIBLE)
LOOP = Condition("LoopLvm", "for a first try", Severity.INFO)


def test_a_pool_without_trouble_is_ready_and_good() -> None:
    ready, degraded = conditions([], {}, 2, now=NOW)
    assert degraded == ready | {"type": "Degraded", "status": "False"}
    assert ready == {
        "type": "Ready",
        "status": "True",
        "reason": "Good",
        "message": "",
        "lastTransitionTime": "2026-01-02T03:04:05Z",
        "observedGeneration": 2,
    }


def test_a_remark_does_not_spoil_it_and_a_trouble_is_its_reason() -> None:
    found = conditions([LOW, LOOP], {}, 2, now=NOW)
    assert [(each["type"], each["status"], each["reason"]) for each in found] == [
        ("Ready", "True", "DataSpaceLow"),
        ("Degraded", "True", "DataSpaceLow"),
        ("DataSpaceLow", "True", "Degraded"),
        ("LoopLvm", "True", "Info"),
    ]


def test_a_pool_that_cannot_be_used_is_not_ready() -> None:
    ready, *_ = conditions([LOW, FULL], {}, 2, now=NOW)
    assert (ready["status"], ready["reason"], ready["message"]) == ("False", "PoolFull", "nothing is left")


def test_a_pool_that_is_not_served_is_not_ready_though_nothing_is_wrong() -> None:
    none = Condition("NoDevices", "no such disk", Severity.INFO)
    ready, degraded, said = conditions([none], {}, 2, served=False, now=NOW)
    assert (ready["status"], ready["reason"], ready["message"]) == ("False", "NoDevices", "no such disk")
    assert (degraded["status"], said["type"]) == ("False", "NoDevices")


def test_a_condition_keeps_its_time_as_long_as_it_holds() -> None:
    before = {each["type"]: each for each in conditions([LOW], {}, 1, now=datetime(2020, 1, 1, tzinfo=UTC))}
    ready, degraded, low, full = conditions([LOW, FULL], before, 2, now=NOW)
    assert low["lastTransitionTime"] == degraded["lastTransitionTime"] == "2020-01-01T00:00:00Z"
    assert full["lastTransitionTime"] == ready["lastTransitionTime"] == "2026-01-02T03:04:05Z"


def test_a_conflict_that_the_controller_told_of_stays_and_the_pool_is_not_ready() -> None:
    told = {"type": "Conflict", "status": "True", "message": "two claim it", "lastTransitionTime": "then"}
    ready, _, conflict = conditions([], {"Conflict": told}, 2, now=NOW)
    assert (ready["status"], ready["reason"], ready["message"]) == ("False", "Conflict", "two claim it")
    assert (conflict["message"], conflict["lastTransitionTime"]) == ("two claim it", "then")


def test_figures_alone_are_no_news() -> None:
    old = {"poolID": "x", "volumes": 1, "conditions": []}
    assert not is_news({"poolID": "x", "volumes": 2, "conditions": []}, old)
    assert is_news({"poolID": "y", "volumes": 1, "conditions": []}, old)
    assert is_news({"poolID": "x", "volumes": 1, "conditions": [{}]}, old)
    said = {"type": "DataSpaceLow", "status": "True", "reason": "Degraded", "message": "899 of 10000 blocks are free"}
    lower = said | {"message": "898 of 10000 blocks are free"}
    assert not is_news({"conditions": [lower]}, {"conditions": [said]})
    assert is_news({"conditions": [said | {"status": "False"}]}, {"conditions": [said]})
