"""The API objects that tests make, as what their YAML would say."""

from collections.abc import Mapping, Sequence
from typing import Any

from tests.cluster.system_disk import TEST_IMAGE

Object = dict[str, Any]

_AWAY = ("not-ready", "unreachable")


def claim(
    name: str,
    size: str,
    storage_class: str,
    *,
    block: bool = False,
    access: str = "ReadWriteOnce",
    source: tuple[str, str] | None = None,
) -> Object:
    """Return a PersistentVolumeClaim. ``source`` is a kind and a name: what it is a copy of."""
    spec: Object = {
        "storageClassName": storage_class,
        "accessModes": [access],
        "volumeMode": "Block" if block else "Filesystem",
        "resources": {"requests": {"storage": size}},
    }
    if source is not None:
        kind, of = source
        group = {"apiGroup": "snapshot.storage.k8s.io"} if kind == "VolumeSnapshot" else {}
        spec["dataSource"] = {"kind": kind, "name": of, **group}
    return {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": name}, "spec": spec}


def pod(
    name: str,
    *,
    mounts: Mapping[str, str] | None = None,
    devices: Mapping[str, str] | None = None,
    node: str = "",
    script: str = "",
    volumes: Sequence[Object] = (),
    container: Mapping[str, Any] | None = None,
    spec: Mapping[str, Any] | None = None,
) -> Object:
    """Return a pod that runs ``script``, or sleeps.

    ``mounts`` gives for a path the claim, or the entry of ``volumes``, that is mounted there; ``devices`` the same for
    raw block. ``node`` names the node that the scheduler must choose. ``container`` and ``spec`` are laid over the
    container and the pod's specification.
    """
    given = {volume["name"] for volume in volumes}
    claims = {used for used in (*(mounts or {}).values(), *(devices or {}).values()) if used not in given}
    program: Object = {
        "name": "main",
        "image": TEST_IMAGE,
        "volumeMounts": [{"name": used, "mountPath": path} for path, used in (mounts or {}).items()],
        "volumeDevices": [{"name": used, "devicePath": path} for path, used in (devices or {}).items()],
    }
    if script:
        program["command"] = ["sh", "-c", script]
    whole: Object = {
        "terminationGracePeriodSeconds": 0,
        # However long a node takes to boot, its pods are not deleted.
        "tolerations": [
            {"key": f"node.kubernetes.io/{why}", "operator": "Exists", "effect": "NoExecute"} for why in _AWAY
        ],
        "containers": [program | dict(container or {})],
        "volumes": [
            *({"name": used, "persistentVolumeClaim": {"claimName": used}} for used in sorted(claims)),
            *volumes,
        ],
    }
    if node:
        whole["nodeSelector"] = {"kubernetes.io/hostname": node}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": whole | dict(spec or {})}


def snapshot(name: str, of: str, snapshot_class: str) -> Object:
    """Return a VolumeSnapshot of the claim ``of``."""
    return {
        "apiVersion": "snapshot.storage.k8s.io/v1",
        "kind": "VolumeSnapshot",
        "metadata": {"name": name},
        "spec": {"volumeSnapshotClassName": snapshot_class, "source": {"persistentVolumeClaimName": of}},
    }


def group_snapshot(name: str, labels: Mapping[str, str], group_class: str) -> Object:
    """Return a VolumeGroupSnapshot of the claims with ``labels``."""
    return {
        "apiVersion": "groupsnapshot.storage.k8s.io/v1",
        "kind": "VolumeGroupSnapshot",
        "metadata": {"name": name},
        "spec": {
            "volumeGroupSnapshotClassName": group_class,
            "source": {"selector": {"matchLabels": dict(labels)}},
        },
    }


def labelled(thing: Object, labels: Mapping[str, str]) -> Object:
    """Return ``thing`` with ``labels``."""
    return thing | {"metadata": thing["metadata"] | {"labels": dict(labels)}}
