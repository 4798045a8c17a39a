"""ThinPools as the values that the node serves."""

import pytest

from csi.errors import InvalidRequestError
from csi.kube.thin_pool import Removal, conditions, pool_spec, wanted
from csi.settings import DeviceSelector, Mode
from csi.units import GIB


def thin_pool(**spec: object) -> dict[str, object]:
    return {"metadata": {"name": "fast", "generation": 3}, "spec": spec}


def test_the_fields_are_those_of_a_pools_file() -> None:
    spec = pool_spec(thin_pool(devices=["/dev/sdb"], thinpPercent=90, nodeSelector={"disk": "fast"}))
    assert (spec.name, spec.devices, spec.thinp_percent) == ("fast", ("/dev/sdb",), 90)
    spec = pool_spec(thin_pool(mode="loop-lvm", loop={"dataSize": "10Gi"}, removalPolicy="delete"))
    assert (spec.mode, spec.loop.data_size) == (Mode.LOOP, 10 * GIB)


def test_disks_may_be_selected_by_what_they_are() -> None:
    spec = pool_spec(thin_pool(deviceSelector={"minSize": "1Gi", "rotational": False}))
    assert spec.selector == DeviceSelector(min_size=GIB, rotational=False)
    with pytest.raises(InvalidRequestError, match="exclude each other"):
        pool_spec(thin_pool(devices=["/dev/sdb"], deviceSelector={"minSize": "1Gi"}))


def test_what_cannot_be_done_names_the_object_and_the_field() -> None:
    with pytest.raises(InvalidRequestError, match=r"ThinPool fast: pools\[0\].blockSize"):
        pool_spec(thin_pool(devices=["/dev/sdb"], blockSize="96Ki"))


def test_what_is_wanted_is_in_both_objects() -> None:
    pool = thin_pool(devices=["/dev/sdb"], removalPolicy="delete")
    node = {"metadata": {"name": "fast.a"}, "spec": {"lost": True}}
    found = wanted(pool, node)
    assert (found.name, found.generation, found.removal, found.leaving, found.lost) == (
        *("fast", 3, Removal.DELETE),
        *(False, True),
    )
    found = wanted(thin_pool(devices=["/dev/sdb"]), {"metadata": {"deletionTimestamp": "now"}})
    assert (found.removal, found.leaving, found.lost) == (Removal.KEEP, True, False)


def test_conditions_are_found_by_type() -> None:
    assert conditions({"status": {"conditions": [{"type": "Ready", "status": "True"}]}})["Ready"]["status"] == "True"
    assert conditions({}) == {}
