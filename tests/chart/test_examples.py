"""The examples of deploy/ fit together, and the driver takes what they ask of it."""

import os
from collections.abc import Iterator
from typing import Any, Final

import yaml

from csi.kube.thin_pool import pool_spec
from csi.rpc.parameters import of_class, of_inline
from tests.guest.machine import ROOT
from tests.tools.chart import Object

_DIRECTORY: Final = os.path.join(ROOT, "deploy/examples")
_ORDER: Final = (
    *("pool.yaml", "classes.yaml", "pvc-ext4.yaml", "pvc-xfs.yaml", "block.yaml", "snapshot.yaml"),
    *("restore-larger.yaml", "clone.yaml", "group-snapshot.yaml", "statefulset.yaml", "ephemeral.yaml"),
)
_MADE_BY: Final = {
    "storageClassName": "StorageClass",
    "volumeSnapshotClassName": "VolumeSnapshotClass",
    "volumeGroupSnapshotClassName": "VolumeGroupSnapshotClass",
    "persistentVolumeClaimName": "PersistentVolumeClaim",
    "claimName": "PersistentVolumeClaim",
    "serviceName": "Service",
    "pool": "ThinPool",
}
"""The fields that name an object of another kind."""


def test_they_are_those_that_the_page_tells_of() -> None:
    assert set(os.listdir(_DIRECTORY)) == set(_ORDER)
    with open(os.path.join(ROOT, "deploy/README.md")) as file:
        page = file.read()
    assert not [name for name in _ORDER if name not in page]
    for name in _ORDER:
        with open(os.path.join(_DIRECTORY, name)) as file:
            assert file.read().startswith("# "), f"{name} does not say what it is"


def test_no_two_objects_have_the_same_name() -> None:
    named = [(each["kind"], each["metadata"]["name"]) for name in _ORDER for each in _objects(name)]
    assert len(named) == len(set(named))


def test_what_they_name_is_made_before_or_beside_them() -> None:
    made: set[tuple[str, str]] = set()
    for name in _ORDER:
        objects = _objects(name)
        made |= {(each["kind"], each["metadata"]["name"]) for each in objects}
        for each in objects:
            for kind, wanted in _named(each):
                assert (kind, wanted) in made, f"{name}: {each['kind']} names {kind} {wanted}"


def test_a_restored_volume_is_larger_than_its_source_and_a_clone_as_large() -> None:
    assert _sizes() == {
        **dict.fromkeys(("ext4", "xfs", "block", "clone", "group-log", "group-rows"), "1Gi"),
        "restored": "3Gi",
    }


def test_every_pod_writes_to_its_volumes_and_ends_at_once() -> None:
    pods = list(_pods())
    assert len(pods) > len(("ext4", "xfs"))
    for pod in pods:
        assert pod["terminationGracePeriodSeconds"] == 1
        (container,) = pod["containers"]
        assert container["image"] == "busybox:1.37"
        places = [each["mountPath"] for each in container.get("volumeMounts", [])]
        places += [each["devicePath"] for each in container.get("volumeDevices", [])]
        assert all(place.startswith(("/data", "/dev/data")) and place in container["command"][-1] for place in places)
        assert len(places) == len(pod["volumes"])
        # As any user, where there is a file system that can belong to a group.
        assert bool(pod.get("securityContext")) == ("volumeMounts" in container)


def test_the_driver_takes_their_parameters() -> None:
    (pool,) = _objects("pool.yaml")
    assert pool_spec(pool).devices == ("/dev/disk/by-id/nvme-YOUR_DISK_*",)
    classes = [each for each in _objects("classes.yaml") if each["kind"] == "StorageClass"]
    assert {each["metadata"]["name"]: of_class(each["parameters"]).fs_type for each in classes} == {
        "fast": "ext4",
        "fast-xfs": "xfs",
    }
    inline = [volume["csi"] for pod in _pods() for volume in pod["volumes"] if "csi" in volume]
    assert [of_inline(each["volumeAttributes"]).size for each in inline] == [1 << 30]
    drivers = [each.get("provisioner", each.get("driver")) for each in (*_objects("classes.yaml"), *inline)]
    assert set(drivers) == {"thinpool-csi.dev"}


def test_what_a_pool_offers_instead_can_be_taken_as_it_is_written() -> None:
    with open(os.path.join(_DIRECTORY, "pool.yaml")) as file:
        head, *others = file.read().split("\n\n")
    above = head[: head.index("  # Put in")]
    for other in others[:2]:
        _, *lines = other.splitlines()
        text = above + "\n".join(line.replace("# ", "", 1) for line in lines)
        assert pool_spec(yaml.safe_load(text)).name == "fast"
    assert len(others) == len(("deviceSelector", "loop-lvm", "nodeSelector"))


def _objects(name: str) -> list[Object]:
    with open(os.path.join(_DIRECTORY, name)) as file:
        return list(yaml.safe_load_all(file))


def _named(tree: Any) -> Iterator[tuple[str, str]]:  # noqa: ANN401 - the API's objects
    """Yield the kinds and names of the objects that an object names."""
    if isinstance(tree, list):
        for each in tree:
            yield from _named(each)
    elif isinstance(tree, dict):
        for key, value in tree.items():
            if key in _MADE_BY and isinstance(value, str):
                yield _MADE_BY[key], value
            elif key == "dataSource":
                yield value["kind"], value["name"]
            else:
                yield from _named(value)


def _sizes() -> dict[str, str]:
    claims = [each for name in _ORDER for each in _objects(name) if each["kind"] == "PersistentVolumeClaim"]
    return {each["metadata"]["name"]: each["spec"]["resources"]["requests"]["storage"] for each in claims}


def _pods() -> Iterator[Object]:
    """Yield the specifications of all pods."""
    for name in _ORDER:
        for each in _objects(name):
            if each["kind"] == "Pod":
                yield each["spec"]
            elif each["kind"] == "StatefulSet":
                claims = [{"name": claim["metadata"]["name"]} for claim in each["spec"]["volumeClaimTemplates"]]
                yield {**each["spec"]["template"]["spec"], "volumes": claims}
