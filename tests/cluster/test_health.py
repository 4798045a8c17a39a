"""A full pool is seen: in its ThinPoolNode, in the node's CSINode, and by the driver's figures."""

import json

from tests.cluster.client import until
from tests.cluster.cluster import Cluster
from tests.cluster.driver import Driver, storage_class, thin_pool
from tests.cluster.manifests import claim, pod
from tests.cluster.pods import Pods
from tests.cluster.test_pools import remove_pool

_USED = "thinpool_csi_pool_data_used_bytes"
_FILL = "while dd if=/dev/urandom bs=1M count=16 conv=fsync of=/dev/data seek=$i; do i=$((i + 16)); done"


def test_a_full_pool_shows_in_the_nodes_status(cluster: Cluster, driver: Driver, pods: Pods) -> None:
    node = cluster.nodes[1]
    disk = cluster.add_disk(node, "1G")
    only = {"kubernetes.io/hostname": node}
    cluster.apply(thin_pool("tiny", [disk], nodeSelector=only, whenFull="error"), storage_class("tiny", "tiny"))
    driver.wait_pool(node, pool="tiny")
    try:
        pods.apply(claim("data", "2Gi", "tiny", block=True), pod("user", devices={"/dev/data": "data"}))
        pods.running("user")
        pods.shell("user", f"i=0; {_FILL} 2>/dev/null; true", limit=240)
        driver.told(node, "DataSpaceLow", "", "tiny")
        assert driver.condition(node, "Ready", "tiny")["status"] == "False"
        told = until("CSINode tells of it", lambda: _health(cluster, node), limit=120)
        assert "tiny" in told, told
        (used,) = [line for line in _metrics(cluster, node).splitlines() if line.startswith(_USED) and '"tiny"' in line]
        assert float(used.split()[-1]) > 900 << 20
    finally:
        pods.delete("pod", "--all")
        pods.delete("pvc", "--all")
        remove_pool(cluster, "tiny")


def _metrics(cluster: Cluster, node: str) -> str:
    fetch = "import urllib.request as u; print(u.urlopen('http://127.0.0.1:9810/metrics').read().decode())"
    return cluster.run(node, "python3", "-c", fetch)


def _health(cluster: Cluster, node: str) -> str:
    """Return what CSINode says of the health of the driver's storage on a node, "" while it is well."""
    drivers = cluster.get("csinode", node).get("status", {})
    text = json.dumps(drivers)
    return text if "tiny" in text else ""
