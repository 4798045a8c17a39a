"""The values' schema: every value is described, wrong ones are refused by name, pools are as their definition says."""

from collections.abc import Iterator, Mapping
from typing import Any, Final

import pytest
import yaml

from csi.settings import parse_pools
from tests.chart.cases import names
from tests.chart.rendered import refused, render
from tests.guest.machine import ROOT
from tests.tools.chart import CHART, ChartError, Object, Value, defaults, fields, helm, resolved, schema, values

_FULL: Final = "tests/chart/full.yaml"
_DEVICES: Final[Object] = {"devices": ["/dev/sdb"]}


def test_every_value_is_described_by_a_sentence() -> None:
    said = {name: part.get("description", "") for name, part in _parts(schema())}
    assert not [name for name, text in said.items() if not text.endswith(".") or text[:1] != text[:1].upper()]


def test_the_schema_and_the_defaults_know_the_same_values() -> None:
    known = {value.name for value in values()}
    given = set(names(defaults()))
    # What is not in the defaults has none.
    assert known - given == {"global"}
    assert not {name for name in given if not any(name.startswith(each) or each.startswith(name) for each in known)}


@pytest.mark.parametrize("files", [(), (f"--values={_FULL}",)], ids=["defaults", "full"])
def test_helm_finds_nothing_to_complain_of(files: tuple[str, ...]) -> None:
    helm("lint", "--strict", CHART, *files)


def test_the_full_values_are_all_there_are_and_none_is_a_default() -> None:
    full = _full()
    given = set(names(full))
    wanted = {value.name: value for value in values() if value.name != "global"}
    assert not wanted.keys() - given
    assert not [name for name, value in wanted.items() if _at(full, name) == value.default]
    of_lists = {f"{value.name}.{field.name}" for value in wanted.values() if value.item for field in fields(value)}
    assert not of_lists - given


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"images": {}}, "additional properties 'images' not allowed"),
        ({"node": {"replicas": 2}}, "'/node': additional properties 'replicas' not allowed"),
        ({"image": {"pullPolicy": "Sometimes"}}, "'/image/pullPolicy': value must be one of 'Always'"),
        ({"image": {"digest": "sha256:12"}}, "'/image/digest': 'sha256:12' does not match"),
        ({"image": {"repository": ""}}, "'/image/repository': '' does not match"),
        ({"image": {"tag": 1}}, "'/image/tag': got number, want string"),
        ({"image": {"tag": "a b"}}, "'/image/tag': 'a b' does not match"),
        ({"imagePullSecrets": ["a"]}, "'/imagePullSecrets/0': got string, want object"),
        ({"kubeletDir": "var/lib"}, "'/kubeletDir': 'var/lib' does not match"),
        ({"kubeletDir": "/data/{kubelet}"}, "'/kubeletDir': '/data/{kubelet}' does not match"),
        ({"snapshots": {"enabled": "yes"}}, "'/snapshots/enabled': value must be one of 'auto', true, false"),
        ({"snapshots": {"groups": 1}}, "'/snapshots/groups': value must be one of"),
        ({"node": {"port": 0}}, "'/node/port': minimum: got 0, want 1"),
        ({"node": {"metricsPort": 70000}}, "'/node/metricsPort': maximum: got 70,000, want 65,535"),
        ({"node": {"port": "9811"}}, "'/node/port': got string, want integer"),
        ({"node": {"logLevel": "loud"}}, "'/node/logLevel': value must be one of 'debug'"),
        ({"node": {"tolerations": {}}}, "'/node/tolerations': got object, want array"),
        ({"node": {"nodeSelector": {"a": True}}}, "'/node/nodeSelector/a': got boolean, want string"),
        ({"node": {"extraArgs": [1]}}, "'/node/extraArgs/0': got number, want string"),
        ({"node": {"priorityClassName": "A"}}, "'/node/priorityClassName': 'A' does not match"),
        ({"node": {"podAnnotations": {"a": 1}}}, "'/node/podAnnotations/a': got number, want string"),
        ({"controller": {"replicas": 0}}, "'/controller/replicas': minimum: got 0, want 1"),
        ({"controller": {"resources": {"request": {}}}}, "'/controller/resources': additional properties 'request'"),
        ({"controller": {"affinity": []}}, "'/controller/affinity': got array, want object"),
        ({"sidecars": {"attacher": {}}}, "'/sidecars': additional properties 'attacher' not allowed"),
        ({"sidecars": {"resizer": {"image": {"tag": ""}}}}, "'/sidecars/resizer/image/tag': '' does not match"),
        ({"podMonitor": {"enabled": "on"}}, "'/podMonitor/enabled': value must be one of 'auto', true, false"),
        ({"prometheusRule": {"labels": {"a": 1}}}, "'/prometheusRule/labels/a': got number, want string"),
        ({"networkPolicy": {"enabled": "auto"}}, "'/networkPolicy/enabled': got string, want boolean"),
        ({"storageClasses": [{}]}, "'/storageClasses/0': missing property 'name'"),
        ({"storageClasses": [{"name": "A"}]}, "'/storageClasses/0/name': 'A' does not match"),
        ({"storageClasses": [{"name": "a", "fsType": "zfs"}]}, "fsType': value must be one of 'ext4', 'xfs', 'btrfs'"),
        ({"storageClasses": [{"name": "a", "mkfsProfile": 5.15}]}, "mkfsProfile': got number, want string"),
        ({"storageClasses": [{"name": "a", "pool": "A"}]}, "'/storageClasses/0/pool': 'A' does not match"),
        ({"volumeSnapshotClasses": [{"name": "a", "deletionPolicy": "Keep"}]}, "value must be one of 'Delete'"),
        ({"volumeGroupSnapshotClasses": [{"name": "a", "driver": "b"}]}, "additional properties 'driver' not allowed"),
        ({"pools": [{"name": "a"}]}, "'/pools/0': missing property 'spec'"),
        ({"pools": [{"name": "a" * 41, "spec": _DEVICES}]}, "'/pools/0/name'"),
    ],
    ids=str,
)
def test_a_wrong_value_is_refused_by_name(given: Object, said: str) -> None:
    assert said in refused(given)


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ({"device": []}, "'/pools/0/spec': additional properties 'device' not allowed"),
        ({"devices": ["sdb"]}, "'/pools/0/spec/devices/0': 'sdb' does not match"),
        ({"trim": False}, "'/pools/0/spec/trim': got boolean, want string"),
        ({"templates": "off"}, "'/pools/0/spec/templates': got string, want boolean"),
        ({"blockSize": "64K"}, "'/pools/0/spec/blockSize': '64K' does not match"),
        ({"thinpPercent": 100}, "'/pools/0/spec/thinpPercent': maximum: got 100, want 99.5"),
        ({"autoextend": {"threshold": 20}}, "'/pools/0/spec/autoextend/threshold': minimum: got 20, want 50"),
        ({"deviceSelector": {}}, "'/pools/0/spec/deviceSelector': minProperties: got 0, want 1"),
        ({"adopt": ["1"]}, "'/pools/0/spec/adopt/0': '1' does not match"),
    ],
    ids=str,
)
def test_a_field_of_a_pool_that_cannot_be_is_refused_by_name(spec: Object, said: str) -> None:
    assert said in refused({"pools": [{"name": "fast", "spec": spec}]})


@pytest.mark.parametrize(
    ("spec", "rule"),
    [
        ({}, 0),
        ({**_DEVICES, "deviceSelector": {"rotational": False}}, 0),
        ({"mode": "loop-lvm", **_DEVICES}, 1),
        ({"mode": "loop-lvm", "deviceSelector": {"rotational": False}}, 1),
        ({"mode": "loop-lvm", "force": False}, 1),
        ({"mode": "loop-lvm", "thinpMetaPercent": 2}, 1),
        ({**_DEVICES, "loop": {"dataSize": "1Gi"}}, 2),
        ({**_DEVICES, "thinpPercent": 90, "thinpMetaPercent": 6}, 3),
        ({**_DEVICES, "thinpPercent": 99}, 3),
        ({**_DEVICES, "thinpMetaPercent": 3}, 3),
    ],
    ids=str,
)
def test_fields_of_a_pool_that_exclude_each_other_are_refused_as_by_the_api(spec: Object, rule: int) -> None:
    message = _definition()["x-kubernetes-validations"][rule]["message"]
    assert f"pools: fast: {message}" in refused({"pools": [{"name": "fast", "spec": spec}]})


def test_a_pool_has_the_fields_of_its_definition() -> None:
    (pools,) = [value for value in values() if value.name == "pools"]
    assert _plain(resolved(pools.item["properties"]["spec"])) == _plain(_definition())


def test_the_defaults_of_a_pool_are_those_of_the_driver() -> None:
    (pools,) = [value for value in values() if value.name == "pools"]
    spec: Object = {}
    for field in fields(pools):
        if field.name.startswith("spec.") and field.default is not None:
            _put(spec, field)
    loop = spec.pop("loop")
    for own in ("nodeSelector", "removalPolicy"):  # the ThinPool's, not the pool's
        assert spec.pop(own) in ({}, "keep")
    bare, whole = parse_pools({"pools": [{"name": "a", **_DEVICES}, {"name": "b", **spec, **_DEVICES}]}, "test")
    assert vars(bare) | {"name": ""} == vars(whole) | {"name": ""}
    trial: Object = {"mode": "loop-lvm"}
    bare, whole = parse_pools({"pools": [{"name": "a", **trial}, {"name": "b", **trial, "loop": loop}]}, "test")
    assert bare.loop == whole.loop


def test_a_list_or_a_map_may_be_taken_away() -> None:
    """Helm deletes a default for which null is given."""
    emptied: Object = {}
    for value in values():
        if value.schema.get("type") in {"array", "object"} and value.name != "global":
            *path, last = value.name.split(".")
            place = emptied
            for key in path:
                place = place.setdefault(key, {})
            place[last] = None
    made = render(emptied)
    assert made.node["nodeSelector"] == made.controller["nodeSelector"] == {"kubernetes.io/os": "linux"}
    assert "tolerations" not in made.node


def test_another_kubernetes_than_it_is_for_is_refused_by_version() -> None:
    with pytest.raises(ChartError, match=r"requires kubeVersion: >=1\.34"):
        helm("template", "a", CHART, "--kube-version=1.33.9")


def _parts(part: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Object]]:
    """Yield all parts of a schema that have a name, with it."""
    for name, each in part.get("properties", {}).items():
        found = resolved(each)
        yield f"{prefix}{name}", found
        yield from _parts(found, f"{prefix}{name}.")
        yield from _parts(resolved(found.get("items", {})), f"{prefix}{name}.")


def _definition() -> Object:
    """Return the schema of a ThinPool's spec."""
    definition = render().one("CustomResourceDefinition", "thinpools.thinpool-csi.dev")
    (version,) = definition["spec"]["versions"]
    return dict(version["schema"]["openAPIV3Schema"]["properties"]["spec"])


def _plain(part: Mapping[str, Any]) -> Object:
    """Return a schema in the terms that the values' and the API's have in common."""
    found = resolved(part)
    if found.get("x-kubernetes-int-or-string"):
        found["type"] = ["integer", "string"]
    if found.get("additionalProperties") is False:
        del found["additionalProperties"]
    for key in ("description", "default", "format", "anyOf", *(key for key in found if key.startswith("x-"))):
        found.pop(key, None)
    if "items" in found:
        found["items"] = _plain(found["items"])
    if "properties" in found:
        found["properties"] = {name: _plain(each) for name, each in found["properties"].items()}
    return found


def _put(spec: Object, field: Value) -> None:
    """Put the default of a pool's field (``spec.loop.dataSize``) where it belongs."""
    _, *path, last = field.name.split(".")
    for key in path:
        spec = spec.setdefault(key, {})
    spec[last] = field.default


def _full() -> Object:
    with open(f"{ROOT}/{_FULL}") as file:
        return dict(yaml.safe_load(file))


def _at(tree: Object, name: str) -> object:
    found: Any = tree
    for key in name.split("."):
        found = found[key]
    return found
