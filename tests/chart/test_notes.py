"""What Helm says after an installation."""

import json
from typing import Final

import pytest

from tests.chart.rendered import refused
from tests.tools.chart import CHART, NAME, Object, helm

_POOLS: Final = [{"name": "big", "spec": {"devices": ["/dev/sdb"]}}]
_CLASSES: Final = [{"name": "big", "pool": "big"}]
_SNAPSHOTS: Final = {"enabled": True}


@pytest.mark.parametrize(
    ("values", "said", "unsaid"),
    [
        ({}, ["There is no pool yet", "kind: ThinPool", "kind: StorageClass", '{pool: "fast", '], []),
        ({"pools": _POOLS}, ["kubectl get thinpoolnodes", '{pool: "big", '], ["There is no pool", "fast"]),
        ({"pools": _POOLS, "storageClasses": _CLASSES}, ["thinpoolnodes"], ["kind: StorageClass", "kind: ThinPool"]),
        ({}, ["has no snapshot API"], []),
        ({"snapshots": _SNAPSHOTS}, [], ["snapshot"]),
    ],
    ids=["nothing", "a pool", "a pool and a class", "no snapshots", "snapshots"],
)  # fmt: skip
def test_they_say_what_to_do_next(values: Object, said: list[str], unsaid: list[str]) -> None:
    notes = _notes(values)
    assert not [text for text in said if text not in notes]
    assert not [text for text in unsaid if text in notes]
    assert "removes no pool and no data" in notes


def test_nothing_is_said_of_what_is_refused() -> None:
    assert "NOTES" not in refused({"pools": [{"name": "big", "spec": {}}]})


def _notes(values: Object) -> str:
    made = helm(
        *("install", NAME, CHART, f"--namespace={NAME}", "--dry-run=client", "--values=-"), values=json.dumps(values)
    )
    _, found, notes = made.partition("\nNOTES:\n")
    assert found
    return notes
