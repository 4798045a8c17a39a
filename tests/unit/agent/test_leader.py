"""What the leader reads out of the cluster's objects."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from csi.agent.leader import _DEFAULTED, listed_changes
from tests.unit.kube.fake import merged


def thin_pool(**spec: object) -> dict[str, Any]:
    return {"metadata": {"name": "fast"}, "spec": {"mode": "direct-lvm", "removalPolicy": "keep", **spec}}


def defaulted(schema: dict[str, Any], *path: str) -> Iterator[tuple[str, ...]]:
    """Yield the paths of all fields with a default."""
    if "default" in schema:
        yield path
    for key, value in schema.items():
        if isinstance(value, dict):
            yield from defaulted(value, *path, key)


def test_a_listed_pool_is_made_and_then_left_as_it_is() -> None:
    text = "[{name: fast, spec: {devices: [/dev/sdb]}}]"
    made = listed_changes(text, {})["fast"]
    assert (made["kind"], made["metadata"], made["spec"]) == ("ThinPool", {"name": "fast"}, {"devices": ["/dev/sdb"]})
    assert listed_changes(text, {"fast": thin_pool(devices=["/dev/sdb"])}) == {}


def test_a_changed_list_changes_the_pool_and_takes_back_what_it_no_longer_says() -> None:
    there = {"fast": thin_pool(devices=["/dev/sdb"], trim="off")}
    changes = listed_changes("[{name: fast, spec: {devices: [/dev/sdc]}}]", there)
    assert changes == {"fast": {"spec": {"devices": ["/dev/sdc"], "trim": None}}}


def test_what_a_field_no_longer_says_is_taken_back_in_it_too() -> None:
    """A merge leaves alone what it does not name, at every depth."""
    listed = "[{name: fast, spec: {autoextend: {percent: 30}, nodeSelector: {disks: many}}}]"
    there = thin_pool(autoextend={"percent": 20, "threshold": 60}, nodeSelector={"disks": "many", "rack": "1"})
    changes = listed_changes(listed, {"fast": there})
    changed = {"spec": {"autoextend": {"percent": 30, "threshold": None}, "nodeSelector": {"rack": None}}}
    assert changes == {"fast": changed}
    assert listed_changes(listed, {"fast": merged(there, changes["fast"])}) == {}


@pytest.mark.parametrize(
    "spec",
    [
        "{autoextend: {percent: 20}}",
        "{autoextend: {percent: 20, threshold: null}, trim: null, mode: null}",
        "{autoextend: {}}",
        "{autoextend: {threshold: null}}",
        "{loop: {dataSize: 1Gi}, devices: [/dev/sda]}",
        "{}",
    ],
)
@pytest.mark.parametrize("there", [{}, {"autoextend": {"percent": 20}, "trim": "off"}, {"autoextend": {}}], ids=str)
def test_what_was_changed_as_listed_is_not_changed_again(spec: str, there: dict[str, Any]) -> None:
    listed, pool = f"[{{name: fast, spec: {spec}}}]", thin_pool(**there)
    once = merged(pool, listed_changes(listed, {"fast": pool}).get("fast", {}))
    assert listed_changes(listed, {"fast": once}) == {}


def test_only_fields_that_are_known_for_it_are_filled_in_by_the_api() -> None:
    """One more, and it would be taken back and filled in for ever."""
    file = Path(__file__).parents[3] / "charts/thinpool-csi/templates/crd-thinpools.yaml"
    (version,) = yaml.safe_load(file.read_text())["spec"]["versions"]
    spec = version["schema"]["openAPIV3Schema"]["properties"]["spec"]
    assert {*defaulted(spec)} == {("properties", name) for name in _DEFAULTED}


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
