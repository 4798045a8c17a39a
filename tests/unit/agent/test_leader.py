"""What the leader reads out of the cluster's objects."""

from typing import Any

import pytest

from csi.agent.leader import listed_changes


def thin_pool(**spec: object) -> dict[str, Any]:
    return {"metadata": {"name": "fast"}, "spec": {"mode": "direct-lvm", "removalPolicy": "keep", **spec}}


def test_a_listed_pool_is_made_and_then_left_as_it_is() -> None:
    text = "[{name: fast, spec: {devices: [/dev/sdb]}}]"
    made = listed_changes(text, {})["fast"]
    assert (made["kind"], made["metadata"], made["spec"]) == ("ThinPool", {"name": "fast"}, {"devices": ["/dev/sdb"]})
    assert listed_changes(text, {"fast": thin_pool(devices=["/dev/sdb"])}) == {}


def test_a_changed_list_changes_the_pool_and_takes_back_what_it_no_longer_says() -> None:
    there = {"fast": thin_pool(devices=["/dev/sdb"], trim="off")}
    changes = listed_changes("[{name: fast, spec: {devices: [/dev/sdc]}}]", there)
    assert changes == {"fast": {"spec": {"devices": ["/dev/sdc"], "trim": None}}}


def test_what_is_not_listed_is_left_alone() -> None:
    assert listed_changes("", {"fast": thin_pool()}) == {}
    assert listed_changes("[]", {"fast": thin_pool()}) == {}


@pytest.mark.parametrize(
    "text",
    [
        "a: b",
        "[a]",
        "[{name: a}]",
        "[{name: a, spec: {}, more: 1}]",
        "[{name: fast, spec: 5}]",
        "[{name: [], spec: {}}]",
    ],
)
def test_what_is_no_list_of_pools_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="not a list of pools"):
        listed_changes(text, {"fast": thin_pool()})


@pytest.mark.parametrize("text", ["[" * 3000, "!!bool x", "2001-99-99"], ids=["deep", "word", "date"])
def test_what_yaml_cannot_read_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="not YAML"):
        listed_changes(text, {})
