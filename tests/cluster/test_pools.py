"""ThinPools in a cluster: made on blank disks, refused on others, sized for the scheduler, removed when empty."""

import json

from tests.cluster.client import CommandError, until
from tests.cluster.cluster import Cluster
from tests.cluster.driver import OTHER_DISK, OWN_DISK, POOL, Driver, storage_class, thin_pool
from tests.cluster.manifests import claim, pod
from tests.cluster.pods import Pods

_NODE = "kubernetes.io/hostname"


def test_blank_disks_become_a_pool_on_each_node(cluster: Cluster, driver: Driver) -> None:
    for node in cluster.nodes:
        seat = driver.seat(node)
        assert seat["status"]["devices"] == [OWN_DISK]
        assert seat["status"]["data"]["total"] > 7 << 30
        assert driver.condition(node, "Ready")["status"] == "True"
    assert len({driver.seat(node)["status"]["poolID"] for node in cluster.nodes}) == len(cluster.nodes)
    table = cluster.kubectl("get", "thinpoolnodes")
    assert [line.split()[1:4] for line in table.splitlines()[1:]] == [[POOL, node, "True"] for node in cluster.nodes]


def test_a_disk_that_holds_a_file_system_is_refused_by_name_and_left_alone(cluster: Cluster, driver: Driver) -> None:
    node = cluster.nodes[0]
    disk = cluster.add_disk(node, "1G")
    cluster.run(node, "mkfs.ext4", "-q", "-L", "somebodys", disk)
    cluster.apply(thin_pool("refused", [disk], nodeSelector={_NODE: node}))
    try:
        said = driver.told(node, "DevicesRefused", disk, "refused")
        assert "ext4" in said["message"]
        assert driver.condition(node, "Ready", "refused")["status"] == "False"
        assert "somebodys" in cluster.run(node, "blkid", disk)
        # Wiped by its owner, it is taken without another word.
        cluster.run(node, "wipefs", "--all", "--quiet", disk)
        driver.wait_pool(node, pool="refused")
        assert driver.condition(node, "DevicesRefused", "refused").get("status") != "True"
    finally:
        remove_pool(cluster, "refused")
    assert cluster.run(node, "lsblk", "--noheadings", "--output=TYPE", disk).split() == ["disk"]


def test_a_claim_lands_where_it_fits_and_one_that_fits_nowhere_waits_for_a_disk(
    cluster: Cluster, driver: Driver, pods: Pods
) -> None:
    _, larger = cluster.nodes
    cluster.apply(thin_pool("roomy", [OTHER_DISK], overprovisionRatio=1), storage_class("roomy", "roomy"))
    driver.wait_pool(*cluster.nodes, pool="roomy")
    try:
        pods.apply(claim("fits", "9Gi", "roomy"), pod("fits", mounts={"/data": "fits"}))
        pods.running("fits")
        assert pods.node_of("fits") == larger
        pods.apply(claim("large", "10Gi", "roomy"), pod("large", mounts={"/data": "large"}))
        pods.event("large", "not have enough free storage")
        assert pods.get("pvc", "large")["status"]["phase"] == "Pending"
        disk = cluster.add_disk(larger, "12G")
        _devices(cluster, "roomy", [OTHER_DISK, disk])
        pods.running("large", limit=180)
        assert pods.node_of("large") == larger
        assert driver.seat(larger, "roomy")["status"]["devices"] == [OTHER_DISK, disk]
        assert pods.write("large", "/data/a") == pods.checksum("large", "/data/a")
        # A pool that holds something is not removed.
        cluster.kubectl("patch", "thinpool", "roomy", "--type=merge", "--patch", '{"spec":{"removalPolicy":"delete"}}')
        cluster.kubectl("delete", "thinpool", "roomy", "--wait=false")
        assert pods.checksum("large", "/data/a") == pods.checksum("large", "/data/a")
        assert cluster.get("thinpool", "roomy")["metadata"]["deletionTimestamp"]
    finally:
        pods.delete("pod", "--all")
        pods.delete("pvc", "--all")
        remove_pool(cluster, "roomy")
    assert cluster.run(larger, "lsblk", "--noheadings", "--output=TYPE", OTHER_DISK, disk).split() == ["disk", "disk"]


def test_what_cannot_be_changed_is_refused_with_the_reason(cluster: Cluster, driver: Driver) -> None:
    for patch, said in (
        ('{"spec":{"mode":"loop-lvm"}}', "mode cannot be changed"),
        ('{"spec":{"blockSize":"128Ki"}}', "blockSize cannot be changed"),
        ('{"spec":{"autoextend":{"threshold":20}}}', "autoextend.threshold"),
        ('{"spec":{"deviceSelector":{"rotational":false}}}', "either devices or deviceSelector"),
    ):
        assert said in cluster.refused("patch", "thinpool", POOL, "--type=merge", "--patch", patch)
    assert driver.condition(cluster.nodes[0], "Ready")["status"] == "True"


def _devices(cluster: Cluster, pool: str, devices: list[str]) -> None:
    patch = json.dumps({"spec": {"devices": devices}})
    cluster.kubectl("patch", "thinpool", pool, "--type=merge", "--patch", patch)


def remove_pool(cluster: Cluster, pool: str) -> None:
    """Remove an empty pool from its disks, and wait until nothing of it is left."""
    try:
        cluster.kubectl("patch", "thinpool", pool, "--type=merge", "--patch", '{"spec":{"removalPolicy":"delete"}}')
    except CommandError as error:
        # It may have been deleted before, and gone by now.
        if "NotFound" not in str(error):
            raise
    cluster.kubectl("delete", "thinpool", pool, "--timeout=360s", "--ignore-not-found", limit=420)
    until(
        f"no ThinPoolNode of {pool} is left",
        lambda: not [each for each in cluster.get("thinpoolnodes")["items"] if each["spec"]["poolName"] == pool],
        limit=60,
    )
