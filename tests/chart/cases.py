"""What each value is for: where in the render it is seen, and what must be there."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

import yaml

from tests.chart.rendered import SIDECARS, Render
from tests.tools.chart import SNAPSHOT_APIS, Object, defaults

_DIGEST: Final = "sha256:" + "1" * 64
_OWN: Final = ("node", "controller", "info")
"""The containers of the driver's image."""
_TOLERATION: Final = {"key": "dedicated", "operator": "Exists"}
_AFFINITY: Final[Object] = {
    "nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": []}}
}
_LIMITS: Final = {"limits": {"cpu": "2"}}
_POOLS: Final = yaml.safe_load("""
- name: fast
  spec:
    {mode: direct-lvm, devices: [/dev/disk/by-id/nvme-*], force: true, thinpPercent: 90, thinpMetaPercent: 0.5,
     autoextend: {threshold: 70, percent: 10}, blockSize: 128Ki, minFreeSpacePercent: 5, overprovisionRatio: 1.5,
     defaultVolumeSize: 10737418240, whenFull: error, trim: "off", templates: false, adopt: [abcdefghij],
     nodeSelector: {disk: "1"}, removalPolicy: delete}
- name: "12"
  spec:
    deviceSelector: {minSize: 1Gi, maxSize: 2.5T, rotational: false, model: ACME*}
- name: trial
  spec: {mode: loop-lvm, loop: {dataSize: 1099511627776, metadataSize: 2Gi}}
""")


@dataclass(frozen=True)
class Case:
    """Some values, what of the render they are seen in, and what that must be."""

    values: Object
    seen: Callable[[Render], object]
    then: object
    apis: tuple[str, ...] = SNAPSHOT_APIS

    @property
    def names(self) -> list[str]:
        """The dotted names of the values, through lists too."""
        return list(names(self.values))


def names(values: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    """Yield the dotted names of all that is nested in ``values``, through lists too."""
    for key, value in values.items():
        yield prefix + key
        for each in value if isinstance(value, list) else [value]:
            if isinstance(each, dict):
                yield from names(each, f"{prefix}{key}.")


def _images(render: Render) -> list[str]:
    return [render.containers[name]["image"] for name in _OWN]


def _labels(kind: str) -> Callable[[Render], object]:
    return lambda render: [each["metadata"]["labels"].get("release") for each in render.all(kind)]


def _class(value: str, kind: str, given: Object, then: Object) -> Case:
    """Return a case of one more class."""
    return Case({value: [given]}, lambda render: render.classes(kind), [then])


_IMAGES: Final = [
    Case({"image": {"repository": "example.com/a", "tag": "1"}}, _images, ["example.com/a:1"] * 3),
    Case({"image": {"tag": "v2", "digest": _DIGEST}}, _images, [f"thinpool-csi@{_DIGEST}"] * 3),
    Case(
        {"image": {"pullPolicy": "Always"}},
        lambda render: set(render.each("imagePullPolicy").values()),
        {"Always"},
    ),
    Case(
        {"imagePullSecrets": [{"name": "a"}]},
        lambda render: [each.get("imagePullSecrets") for each in (*render.all("ServiceAccount"), render.test)],
        [[{"name": "a"}]] * 3,
    ),
]

_LISTS: Final = [
    Case(
        {"pools": _POOLS},
        lambda render: yaml.safe_load(render.one("ConfigMap", "thinpool-csi-pools")["data"]["pools.yaml"]),
        _POOLS,
    ),
    _class(
        "storageClasses",
        "StorageClass",
        {"name": "12"},
        {
            "name": "12",
            "provisioner": "thinpool-csi.dev",
            "parameters": {"csi.storage.k8s.io/fstype": "ext4"},
            "reclaimPolicy": "Delete",
            "volumeBindingMode": "WaitForFirstConsumer",
            "allowVolumeExpansion": True,
        },
    ),
    _class(
        "storageClasses",
        "StorageClass",
        {
            "name": "a",
            "default": True,
            "pool": "7",
            "fsType": "xfs",
            "mkfsProfile": "5.10",
            "reclaimPolicy": "Retain",
            "volumeBindingMode": "Immediate",
            "mountOptions": ["noatime", "nosuid"],
        },
        {
            "name": "a",
            "storageclass.kubernetes.io/is-default-class": "true",
            "provisioner": "thinpool-csi.dev",
            "parameters": {"pool": "7", "csi.storage.k8s.io/fstype": "xfs", "mkfsProfile": "5.10"},
            "reclaimPolicy": "Retain",
            "volumeBindingMode": "Immediate",
            "allowVolumeExpansion": True,
            "mountOptions": ["noatime", "nosuid"],
        },
    ),
    *(
        case
        for value, kind, group in (
            ("volumeSnapshotClasses", "VolumeSnapshotClass", "snapshot"),
            ("volumeGroupSnapshotClasses", "VolumeGroupSnapshotClass", "groupsnapshot"),
        )
        for case in (
            _class(value, kind, {"name": "a"}, {"name": "a", "driver": "thinpool-csi.dev", "deletionPolicy": "Delete"}),
            _class(
                value,
                kind,
                {"name": "a", "default": True, "deletionPolicy": "Retain"},
                {
                    "name": "a",
                    f"{group}.storage.kubernetes.io/is-default-class": "true",
                    "driver": "thinpool-csi.dev",
                    "deletionPolicy": "Retain",
                },
            ),
        )
    ),
]


def _of_pods(part: str, pod: Callable[[Render], Object], kind: str) -> list[Case]:
    """Return the cases of what the nodes' pods and the controllers' have in common."""

    def annotations(render: Render) -> object:
        return render.one(kind)["spec"]["template"]["metadata"].get("annotations")

    return [
        Case({part: {"logLevel": "debug"}}, lambda render: "--log-level=debug" in render.args(part), then=True),
        Case({part: {"priorityClassName": "a"}}, lambda render: pod(render)["priorityClassName"], "a"),
        Case({part: {"priorityClassName": ""}}, lambda render: "priorityClassName" in pod(render), then=False),
        Case({part: {"tolerations": [_TOLERATION]}}, lambda render: pod(render)["tolerations"], [_TOLERATION]),
        Case({part: {"tolerations": []}}, lambda render: "tolerations" in pod(render), then=False),
        Case(
            {part: {"nodeSelector": {"disk": "1", "kubernetes.io/os": "linux"}}},
            lambda render: pod(render)["nodeSelector"],
            {"disk": "1", "kubernetes.io/os": "linux"},
        ),
        Case({part: {"affinity": _AFFINITY}}, lambda render: pod(render).get("affinity"), _AFFINITY),
        Case({part: {"podAnnotations": {"a": "1"}}}, annotations, {"a": "1"}),
        Case({part: {"extraArgs": ["--a=1", "--b"]}}, lambda render: render.args(part)[-2:], ["--a=1", "--b"]),
        _of_resources({part: {"resources": _LIMITS}}, part, defaults()[part]["resources"]),
        _of_resources({part: {"resources": {"requests": {"memory": "1Gi"}}}}, part, defaults()[part]["resources"]),
    ]


def _of_resources(values: Object, container: str, before: Object) -> Case:
    """Return a case of a container's resources, which are laid over the defaults."""
    given: Object = values
    while "resources" not in given:
        (given,) = given.values()
    then = {key: amounts | given["resources"].get(key, {}) for key, amounts in before.items()}
    return Case(values, lambda render: render.containers[container]["resources"], then)


def _of_sidecar(part: str) -> list[Case]:
    """Return the cases of a side-car."""
    name, before = f"csi-{part}", defaults()["sidecars"][part]

    def case(values: Object, seen: Callable[[Object], object], then: object) -> Case:
        return Case({"sidecars": {part: values}}, lambda render: seen(render.containers[name]), then)

    repository, tag = before["image"]["repository"], before["image"]["tag"]
    return [
        case({"image": {"repository": "example.com/a"}}, lambda each: each["image"], f"example.com/a:{tag}"),
        case({"image": {"tag": "v0"}}, lambda each: each["image"], f"{repository}:v0"),
        case({"image": {"digest": _DIGEST}}, lambda each: each["image"], f"{repository}@{_DIGEST}"),
        case({"extraArgs": ["--v=5"]}, lambda each: each["args"][-1], "--v=5"),
        _of_resources({"sidecars": {part: {"resources": _LIMITS}}}, name, before["resources"]),
        _of_resources({"sidecars": {part: {"resources": {"requests": {"a": 1}}}}}, name, before["resources"]),
    ]


_NODE: Final = [
    *_of_pods("node", lambda render: render.node, "DaemonSet"),
    Case(
        {"node": {"port": 1}},
        lambda render: ("--listen=$(NODE_IP):1" in render.args("node"), _port(render, "controllers")),
        (True, 1),
    ),
    Case(
        {"node": {"metricsPort": 1}},
        lambda render: ("--metrics=$(NODE_IP):1" in render.args("node"), _port(render, "metrics")),
        (True, 1),
    ),
    # The pod of `helm test` goes where the driver is.
    Case(
        {"node": {"nodeSelector": {"a": "b"}, "affinity": _AFFINITY, "tolerations": [_TOLERATION]}},
        lambda render: [render.test.get(each) for each in ("nodeSelector", "affinity", "tolerations")],
        [{"a": "b", "kubernetes.io/os": "linux"}, _AFFINITY, [_TOLERATION]],
    ),
]


def _port(render: Render, name: str) -> int:
    (found,) = [each for each in render.containers["node"]["ports"] if each["name"] == name]
    return int(found["containerPort"])


_SWITCHES: Final = [
    Case({"snapshots": {"enabled": False}}, lambda render: "csi-snapshotter" in render.containers, then=False),
    Case(
        {"snapshots": {"groups": False}},
        lambda render: any("CSIVolumeGroupSnapshot" in each for each in render.args("csi-snapshotter")),
        then=False,
    ),
    Case({"networkPolicy": {"enabled": False}}, lambda render: render.all("NetworkPolicy"), []),
    *(
        case
        for value, kind in (("podMonitor", "PodMonitor"), ("prometheusRule", "PrometheusRule"))
        for case in (
            Case({value: {"enabled": True}}, lambda render, kind=kind: len(render.all(kind)), 1),  # type: ignore[misc]
            Case({value: {"enabled": True, "labels": {"release": "1"}}}, _labels(kind), ["1"]),
        )
    ),
]

CASES: Final[list[Case]] = [
    *_IMAGES,
    Case(
        {"kubeletDir": "/data/kubelet"},
        lambda render: (render.text.count("/data/kubelet"), render.text.count("/var/lib/kubelet")),
        (6, 0),
    ),
    *_LISTS,
    *_NODE,
    *_of_pods("controller", lambda render: render.controller, "Deployment"),
    Case({"controller": {"replicas": 3}}, lambda render: render.one("Deployment")["spec"]["replicas"], 3),
    *(case for part in SIDECARS for case in _of_sidecar(part)),
    *_SWITCHES,
]
