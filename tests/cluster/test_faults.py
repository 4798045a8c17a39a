"""What dies, and what must not: the plugin, a controller, a node for a while, a node for good."""

import json
import time
from itertools import cycle

from csi.model import TOPOLOGY_KEY
from csi.rpc.forward import FRESH
from tests.cluster.client import CommandError, until
from tests.cluster.cluster import Cluster
from tests.cluster.driver import POOL, Driver, storage_class
from tests.cluster.manifests import Object, claim, pod, snapshot
from tests.cluster.pods import Pods

_BURST = 30
_WRITING = (
    "i=0; while true; do i=$((i + 1));"
    " dd if=/dev/urandom of=/data/part bs=64k count=16 conv=fsync 2>/dev/null && echo $i >/data/new"
    " && mv /data/new /data/rounds || echo $i >>/data/failed; done"
)


def test_pods_write_on_while_the_plugin_is_killed(cluster: Cluster, driver: Driver, pods: Pods) -> None:
    node = cluster.nodes[0]
    pods.apply(claim("data", "1Gi", POOL), pod("writer", mounts={"/data": "data"}, script=_WRITING, node=node))
    pods.running("writer")
    until("it writes", lambda: _rounds(pods) > 1, limit=60)
    mounts = pods.shell("writer", "grep ' /data ' /proc/self/mountinfo")
    for _ in range(3):
        _plugin_dies(driver, node, pods)
    assert pods.shell("writer", "grep ' /data ' /proc/self/mountinfo") == mounts
    assert pods.shell("writer", "ls /data/failed 2>/dev/null || true") == ""
    assert pods.get("pod", "writer")["status"]["containerStatuses"][0]["restartCount"] == 0
    driver.wait_pool(node)
    # The next plugin serves what the one before has staged.
    pods.delete("pod/writer", "pvc/data")
    driver.settled()


def test_a_burst_of_claims_and_snapshots_is_served_though_the_controller_is_killed(
    cluster: Cluster, driver: Driver, pods: Pods
) -> None:
    # A class for each node: a volume of which no controller knows whether it was made is asked for nowhere else.
    classes = {node: f"at-once-{node}" for node in cluster.nodes}
    cluster.apply(*(_at_once(name, node) for node, name in classes.items()))
    claims = [f"c{number:02}" for number in range(_BURST)]
    killed = {driver.leader(), driver.leader("thinpool-csi-dev")}
    pods.apply(*(claim(name, "256Mi", of) for name, of in zip(claims, cycle(classes.values()), strict=False)))
    until("some are bound", lambda: _bound(pods) > 2, limit=60)
    for name in killed:
        driver.kill(name)
    pods.apply(*(snapshot(f"s-{name}", name, POOL) for name in claims))
    pods.bound(*claims, limit=240)
    pods.snapshot_ready(*(f"s-{name}" for name in claims), limit=240)
    driver.settled()
    assert len(driver.held()) >= 2 * _BURST
    pods.delete("volumesnapshot", "--all", limit=240)
    pods.delete("pvc", "--all", limit=240)
    driver.settled()
    driver.wait_ready()
    cluster.kubectl("delete", "storageclass", *classes.values(), again=False)


def test_a_volume_whose_claim_was_not_told_is_found_again_by_the_next_controller(
    cluster: Cluster, driver: Driver, pods: Pods
) -> None:
    """The node has answered, and no PersistentVolume can be written when the provisioner dies."""
    cluster.apply(*_no_volumes_for(pods.namespace))
    held = driver.held()
    until("nobody can write a volume", lambda: _no_volume_for(cluster, pods.namespace), limit=60)
    # The next controller, too, is to ask this node.
    pods.apply(claim("data", "1Gi", POOL), pod("user", mounts={"/data": "data"}, node=cluster.nodes[0]))
    until("the node has made it", lambda: driver.held().keys() - held.keys(), limit=60)
    (made,) = driver.held().keys() - held.keys()
    assert pods.get("pvc", "data")["status"]["phase"] == "Pending"
    driver.kill(driver.leader("thinpool-csi-dev"))
    cluster.kubectl("delete", "validatingadmissionpolicybinding", "no-volumes", again=False)
    cluster.kubectl("delete", "validatingadmissionpolicy", "no-volumes", again=False)
    pods.running("user", limit=180)
    volume = pods.get("pvc", "data")["spec"]["volumeName"]
    assert cluster.get("persistentvolume", volume)["spec"]["csi"]["volumeHandle"] == made
    driver.settled()
    driver.wait_ready()


def test_a_node_that_was_killed_brings_its_pods_back_with_their_data(
    cluster: Cluster, driver: Driver, pods: Pods
) -> None:
    node = cluster.nodes[0]
    pods.apply(
        claim("data", "1Gi", POOL),
        claim("block", "1Gi", POOL, block=True),
        pod("user", mounts={"/data": "data"}, devices={"/dev/block": "block"}, node=node),
    )
    pods.running("user")
    before = pods.write("user", "/data/a"), pods.write("user", "/dev/block")
    cluster.kill_node(node)
    cluster.boot_node(node)
    driver.wait_pool(node)
    until("its container was started again", lambda: _restarts(pods, "user") > 0, limit=180)
    pods.running("user", limit=180)
    assert (pods.checksum("user", "/data/a"), pods.checksum("user", "/dev/block")) == before
    driver.wait_ready()
    assert "0 findings" in driver.command(node, "check")


def test_a_node_that_is_lost_for_good_holds_its_volumes_deletion_until_a_person_says_so(
    cluster: Cluster, driver: Driver, pods: Pods
) -> None:
    stays, node = cluster.nodes
    pods.apply(claim("gone", "1Gi", POOL), pod("user", mounts={"/data": "gone"}, node=node))
    pods.running("user")
    volume = pods.get("pvc", "gone")["spec"]["volumeName"]
    pods.apply(snapshot("too", "gone", POOL))
    pods.snapshot_ready("too")
    cluster.kill_node(node)
    # What a node answered in the last seconds passes for its presence: it would be asked, and might have made it.
    time.sleep(FRESH + 1)
    # The scheduler does not know yet: it prefers that node, whose driver cannot be reached.
    prefers = {"affinity": {"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [_prefer(node)]}}}
    pods.apply(claim("moves", "1Gi", POOL), pod("moves", mounts={"/data": "moves"}, spec=prefers))
    pods.running("moves", limit=180)
    assert pods.node_of("moves") == stays
    # What is on the lost node is not forgotten.
    pods.delete("pod/user", "--grace-period=0", "--force")
    pods.kubectl("delete", "pvc/gone", "volumesnapshot/too", "--wait=false")
    until("the deletion says that it waits for the node", lambda: node in _waits(cluster, volume), limit=120)
    assert cluster.get("persistentvolume", volume)["status"]["phase"] in {"Released", "Failed"}
    until("nothing is claimed of the pool", lambda: driver.condition(node, "Ready")["status"] == "Unknown", limit=120)
    cluster.kubectl("patch", "thinpoolnode", f"{POOL}.{node}", "--type=merge", "--patch", '{"spec":{"lost":true}}')
    cluster.wait(f"persistentvolume/{volume}", "delete", limit=120)
    cluster.wait("volumesnapshot/too", "delete", f"--namespace={pods.namespace}", limit=120)
    # A new machine in its place, on blank disks: the lost pool makes room for a new one.
    cluster.boot_node(node, blank=True)
    old = driver.seat(node)["status"]["poolID"]
    cluster.kubectl("delete", "thinpoolnode", f"{POOL}.{node}", "--timeout=240s", limit=300, again=False)
    driver.wait_pool(node)
    assert driver.seat(node)["status"]["poolID"] != old
    driver.wait_ready()
    pods.apply(claim("new", "1Gi", POOL), pod("new", mounts={"/data": "new"}, node=node))
    pods.running("new", limit=180)
    pods.delete("pod", "--all")
    pods.delete("pvc", "--all")
    driver.settled()


def _plugin_dies(driver: Driver, node: str, pods: Pods) -> None:
    old, rounds = driver.plugin(node), _rounds(pods)
    driver.kill(old)
    until("it writes on", lambda: _rounds(pods) > rounds + 2, limit=60)
    until("another plugin runs", lambda: driver.plugin(node) != old, limit=60)
    driver.wait_ready()


def _prefer(node: str) -> Object:
    wanted = {"key": "kubernetes.io/hostname", "operator": "In", "values": [node]}
    return {"weight": 100, "preference": {"matchExpressions": [wanted]}}


def _waits(cluster: Cluster, volume: str) -> str:
    """Return what is told of the volume's failed deletion."""
    found = cluster.get("events", "--all-namespaces", f"--field-selector=involvedObject.name={volume}")
    return next((each["message"] for each in found["items"] if each["reason"] == "VolumeFailedDelete"), "")


def _at_once(name: str, node: str) -> Object:
    """Return a class of volumes that are made at once, on one node."""
    there = {"matchLabelExpressions": [{"key": TOPOLOGY_KEY, "values": [node]}]}
    return storage_class(name, POOL) | {"volumeBindingMode": "Immediate", "allowedTopologies": [there]}


def _no_volume_for(cluster: Cluster, namespace: str) -> bool:
    """Tell whether the policy holds by now."""
    spec = {
        "capacity": {"storage": "1Gi"},
        "accessModes": ["ReadWriteOnce"],
        "hostPath": {"path": "/x"},
        "claimRef": {"namespace": namespace, "name": "data"},
    }
    volume = {"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": "probe"}, "spec": spec}
    try:
        cluster.kubectl("create", "--dry-run=server", "--filename=-", input=json.dumps(volume))
    except CommandError as error:
        return "no-volumes" in str(error)
    return False


def _no_volumes_for(namespace: str) -> list[Object]:
    """Return a policy that lets nobody write a PersistentVolume for a claim of the namespace."""
    rule = {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["persistentvolumes"]}
    group = "admissionregistration.k8s.io/v1"
    policy = {
        "matchConstraints": {"resourceRules": [rule]},
        "validations": [{"expression": f"object.spec.claimRef.namespace != {json.dumps(namespace)}"}],
    }
    return [
        {
            "apiVersion": group,
            "kind": "ValidatingAdmissionPolicy",
            "metadata": {"name": "no-volumes"},
            "spec": policy,
        },
        {
            "apiVersion": group,
            "kind": "ValidatingAdmissionPolicyBinding",
            "metadata": {"name": "no-volumes"},
            "spec": {"policyName": "no-volumes", "validationActions": ["Deny"]},
        },
    ]


def _bound(pods: Pods) -> int:
    return sum(each["status"]["phase"] == "Bound" for each in pods.get("pvc")["items"])


def _restarts(pods: Pods, name: str) -> int:
    return int(pods.get("pod", name)["status"]["containerStatuses"][0]["restartCount"])


def _rounds(pods: Pods) -> int:
    return int(pods.shell("writer", "cat /data/rounds 2>/dev/null || echo 0"))
