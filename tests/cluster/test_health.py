"""A full pool is seen, in its ThinPoolNode, the node's CSINode and the driver's figures, and its writers only wait."""

import json

from tests.cluster.client import until
from tests.cluster.cluster import Cluster
from tests.cluster.driver import Driver, storage_class, thin_pool
from tests.cluster.manifests import claim, pod
from tests.cluster.pods import Pods
from tests.cluster.test_pools import remove_pool

_USED = "thinpool_csi_pool_data_used_bytes"
_MIB = 1280
_FILL = (
    f"i=0; while [ $i -lt {_MIB} ]; do"
    " dd if=/dev/urandom bs=1M count=16 conv=fsync of=/dev/data seek=$i || touch /failed; i=$((i + 16)); done;"
    " touch /done; sleep 2147483647"
)


def test_a_full_pool_is_told_of_and_its_writer_goes_on_with_a_new_disk(
    cluster: Cluster, driver: Driver, pods: Pods
) -> None:
    node = cluster.nodes[1]
    disk = cluster.add_disk(node, "1G")
    only = {"kubernetes.io/hostname": node}
    cluster.apply(thin_pool("tiny", [disk], nodeSelector=only), storage_class("tiny", "tiny"))
    driver.wait_pool(node, pool="tiny")
    try:
        pods.apply(claim("data", "2Gi", "tiny", block=True), pod("user", devices={"/dev/data": "data"}, script=_FILL))
        pods.running("user")
        driver.told(node, "DataSpaceLow", "", "tiny")
        driver.told(node, "PoolFull", "", "tiny")
        # For a moment it may take writes again: its ballast is given to it.
        until("it is not ready", lambda: driver.condition(node, "Ready", "tiny").get("status") == "False", limit=60)
        told = until("CSINode tells of it", lambda: _health(cluster, node), limit=120)
        assert "tiny" in told, told
        (used,) = [line for line in _metrics(cluster, node).splitlines() if line.startswith(_USED) and '"tiny"' in line]
        assert float(used.split()[-1]) > 900 << 20
        assert pods.shell("user", "ls /done /failed 2>/dev/null || true") == ""
        more = cluster.add_disk(node, "2G")
        patch = json.dumps({"spec": {"devices": [disk, more]}})
        cluster.kubectl("patch", "thinpool", "tiny", "--type=merge", "--patch", patch)
        until("it has written all", lambda: pods.shell("user", "ls /done 2>/dev/null || true"), limit=180)
        assert pods.shell("user", "ls /failed 2>/dev/null || true") == ""
    finally:
        pods.delete("pod", "--all")
        pods.delete("pvc", "--all")
        remove_pool(cluster, "tiny")


def _metrics(cluster: Cluster, node: str) -> str:
    url = f"http://{cluster.address(node)}:9810/metrics"
    return cluster.run(node, "python3", "-c", f"import urllib.request as u; print(u.urlopen({url!r}).read().decode())")


def _health(cluster: Cluster, node: str) -> str:
    """Return what CSINode says of the health of the driver's storage on a node, "" while it is well."""
    drivers = cluster.get("csinode", node).get("status", {})
    text = json.dumps(drivers)
    return text if "tiny" in text else ""
