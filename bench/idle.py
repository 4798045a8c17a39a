"""The memory of a node that has next to nothing to do."""

from bench.node import in_cluster, resident
from bench.rig import Rig
from bench.shipped import as_shipped


def run(rig: Rig) -> None:
    """Let a node follow a cluster with one empty pool."""
    crowd = rig.crowd
    rig.report.tell("a node in a cluster, idle")
    (disk,) = crowd.served.spec.devices
    with crowd.released(), as_shipped(rig.shipped), in_cluster(rig.base / "idle", disk) as host:
        memory = resident(host)
    rig.report.add("rss_node_mib", memory, "VmRSS, one pool, log level info")
