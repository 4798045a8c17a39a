"""Volumes in pods: from the claim to the data, in all the ways in which pods use them."""

import json

import pytest

from tests.cluster.client import until
from tests.cluster.cluster import Cluster
from tests.cluster.driver import POOL, XFS, Driver
from tests.cluster.manifests import Object, claim, pod
from tests.cluster.pods import Pods


@pytest.mark.parametrize("storage_class", [POOL, XFS])
def test_a_claim_is_bound_where_its_pod_runs_and_keeps_data(driver: Driver, pods: Pods, storage_class: str) -> None:
    pods.apply(claim("data", "1Gi", storage_class), pod("first", mounts={"/data": "data"}))
    pods.running("first")
    checksum = pods.write("first", "/data/a")
    node = pods.node_of("first")
    pods.delete("pod/first")
    pods.apply(pod("second", mounts={"/data": "data"}))
    pods.running("second")
    assert pods.node_of("second") == node
    assert pods.checksum("second", "/data/a") == checksum
    pods.delete("pod/second", "pvc/data")
    driver.settled()


def test_a_clone_is_mounted_beside_its_source(cluster: Cluster, pods: Pods) -> None:
    """Of xfs, which refuses to mount two file systems of the same identity."""
    pods.apply(claim("source", "1Gi", XFS), pod("source", mounts={"/data": "source"}))
    pods.running("source")
    checksum = pods.write("source", "/data/a")
    pods.apply(
        claim("clone", "1Gi", XFS, source=("PersistentVolumeClaim", "source")),
        pod("clone", mounts={"/data": "clone"}),
    )
    pods.running("clone")
    assert pods.node_of("clone") == pods.node_of("source")
    assert pods.checksum("clone", "/data/a") == checksum
    changed = pods.write("clone", "/data/a")
    assert pods.checksum("source", "/data/a") == checksum != changed
    uuids = {cluster.run(pods.node_of(name), "stat", "-fc", "%i", _staged(pods, name)) for name in ("source", "clone")}
    assert len(uuids) == len(("source", "clone"))


def test_a_raw_block_volume_is_a_device_in_the_pod(pods: Pods) -> None:
    pods.apply(claim("block", "1Gi", POOL, block=True), pod("first", devices={"/dev/data": "block"}))
    pods.running("first")
    assert pods.shell("first", "test -b /dev/data && blockdev --getsize64 /dev/data") == f"{1 << 30}\n"
    checksum = pods.write("first", "/dev/data")
    pods.delete("pod/first")
    pods.apply(pod("second", devices={"/dev/data": "block"}))
    pods.running("second")
    assert pods.checksum("second", "/dev/data") == checksum


@pytest.mark.parametrize("storage_class", [POOL, XFS])
def test_a_volume_grows_while_its_pod_writes(pods: Pods, storage_class: str) -> None:
    writing = (
        "i=0; while true; do dd if=/dev/urandom of=/data/part bs=64k count=16 conv=fsync 2>>/data/errors"
        " || echo failed >>/data/failed; i=$((i + 1)); echo $i >/data/new; mv /data/new /data/rounds; done"
    )
    pods.apply(claim("data", "1Gi", storage_class), pod("writer", mounts={"/data": "data"}, script=writing))
    pods.running("writer")
    before = _total(pods, "writer")
    rounds = _rounds(pods, "writer")
    larger = {"spec": {"resources": {"requests": {"storage": "3Gi"}}}}
    pods.kubectl("patch", "pvc", "data", "--patch", json.dumps(larger))
    until("the file system is larger", lambda: _total(pods, "writer") > 2 * before, limit=120)
    until(
        "the claim tells its new size",
        lambda: pods.get("pvc", "data")["status"]["capacity"]["storage"] == "3Gi",
        limit=60,
    )
    until("the writer goes on", lambda: _rounds(pods, "writer") > rounds + 2, limit=60)
    assert pods.shell("writer", "ls /data/failed 2>/dev/null || true") == ""


def test_the_group_of_a_pod_owns_its_volume(pods: Pods) -> None:
    user = {"runAsUser": 1000, "runAsGroup": 1000, "fsGroup": 2000}
    pods.apply(claim("data", "1Gi", POOL), pod("user", mounts={"/data": "data"}, spec={"securityContext": user}))
    pods.running("user")
    pods.write("user", "/data/a")
    assert pods.shell("user", "stat -c '%u %g' /data/a") == "1000 2000\n"


def test_a_volume_is_mounted_read_only_and_by_a_path_below_it(pods: Pods) -> None:
    pods.apply(claim("data", "1Gi", POOL), pod("writer", mounts={"/data": "data"}))
    pods.running("writer")
    pods.shell("writer", "mkdir /data/below && echo here >/data/below/file && sync")
    reader = {"volumeMounts": [{"name": "data", "mountPath": "/data", "readOnly": True}]}
    below = {"volumeMounts": [{"name": "data", "mountPath": "/data", "subPath": "below"}]}
    pods.apply(
        pod("reader", mounts={"/data": "data"}, container=reader),
        pod("below", mounts={"/data": "data"}, container=below),
    )
    pods.running("reader", "below")
    assert pods.shell("reader", "cat /data/below/file; touch /data/x 2>&1 || true").split("\n")[0] == "here"
    assert "Read-only" in pods.shell("reader", "touch /data/x 2>&1 || true")
    assert pods.shell("below", "cat /data/file; echo more >/data/file") == "here\n"
    assert pods.shell("writer", "cat /data/below/file") == "more\n"


def test_a_claim_for_one_pod_is_used_by_one_pod(pods: Pods) -> None:
    pods.apply(
        claim("data", "1Gi", POOL, access="ReadWriteOncePod"),
        pod("first", mounts={"/data": "data"}),
    )
    pods.running("first")
    pods.apply(pod("second", mounts={"/data": "data"}))
    pods.event("second", "ReadWriteOncePod")
    pods.delete("pod/first")
    pods.running("second")


def test_a_generic_ephemeral_volume_comes_and_goes_with_its_pod(driver: Driver, pods: Pods) -> None:
    template = {"spec": claim("none", "1Gi", POOL)["spec"]}
    scratch = {"name": "scratch", "ephemeral": {"volumeClaimTemplate": template}}
    pods.apply(pod("user", mounts={"/data": "scratch"}, volumes=[scratch]))
    pods.running("user")
    assert pods.write("user", "/data/a") == pods.checksum("user", "/data/a")
    pods.delete("pod/user")
    until("the claim is gone", lambda: not pods.get("pvc")["items"], limit=60)
    driver.settled()


def test_an_inline_volume_comes_and_goes_with_its_pod(driver: Driver, pods: Pods) -> None:
    inline = {"name": "scratch", "csi": {"driver": "thinpool-csi.dev", "volumeAttributes": _inline(size="1Gi")}}
    pods.apply(pod("user", mounts={"/data": "scratch"}, volumes=[inline]))
    pods.running("user")
    node = pods.node_of("user")
    # What an earlier test deleted may be there for a while.
    until("it alone has no object", lambda: len(driver.held(node).keys() - driver.handles()) == 1, limit=120)
    assert pods.write("user", "/data/a") == pods.checksum("user", "/data/a")
    assert 900 < _total(pods, "user") >> 20 < 1024
    pods.delete("pod/user")
    driver.settled()
    refused = {"name": "scratch", "csi": {"driver": "thinpool-csi.dev", "volumeAttributes": _inline(size="1Zi")}}
    pods.apply(pod("wrong", mounts={"/data": "scratch"}, volumes=[refused], node=node))
    pods.event("wrong", "size")
    pods.delete("pod/wrong")


def test_a_stateful_set_keeps_its_data_over_a_rolling_restart(pods: Pods) -> None:
    pods.apply(_stateful_set("db", 3))
    names = [f"db-{number}" for number in range(3)]
    pods.kubectl("rollout", "status", "statefulset/db", "--timeout=540s", limit=600)
    before = {name: (pods.node_of(name), pods.write(name, "/data/a")) for name in names}
    pods.kubectl("rollout", "restart", "statefulset/db")
    pods.kubectl("rollout", "status", "statefulset/db", "--timeout=540s", limit=600)
    assert {name: (pods.node_of(name), pods.checksum(name, "/data/a")) for name in names} == before


def _inline(**attributes: str) -> dict[str, str]:
    return {"pool": POOL, **attributes}


def _stateful_set(name: str, replicas: int) -> Object:
    labels = {"app": name}
    of_pod = pod(name, mounts={"/data": "data"}, volumes=[{"name": "data"}])["spec"] | {"volumes": []}
    template = {"metadata": {"labels": labels}, "spec": of_pod}
    return {
        "apiVersion": "apps/v1",
        "kind": "StatefulSet",
        "metadata": {"name": name},
        "spec": {
            "replicas": replicas,
            "serviceName": name,
            "selector": {"matchLabels": labels},
            "template": template,
            "volumeClaimTemplates": [{"metadata": {"name": "data"}, "spec": claim("data", "1Gi", POOL)["spec"]}],
        },
    }


def _staged(pods: Pods, name: str) -> str:
    """Return where the kubelet has the volume of the pod's claim, on its node."""
    uid = pods.get("pod", name)["metadata"]["uid"]
    volume = pods.get("pvc", name)["spec"]["volumeName"]
    return f"/var/lib/kubelet/pods/{uid}/volumes/kubernetes.io~csi/{volume}/mount"


def _total(pods: Pods, name: str) -> int:
    """Return the size of the file system at /data in bytes."""
    return int(pods.shell(name, "df -P -k /data | tail -n 1").split()[1]) << 10


def _rounds(pods: Pods, name: str) -> int:
    return int(pods.shell(name, "cat /data/rounds 2>/dev/null || echo 0"))
