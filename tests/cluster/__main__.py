"""A Kubernetes cluster for a person, with this tree's driver in it, until Ctrl-C: ``python -m tests.cluster``."""

import signal
import sys
import time
from types import FrameType
from typing import Final, NoReturn

from tests.cluster.cluster import Cluster
from tests.cluster.driver import VALUES, Driver
from tests.cluster.programs import programs

_NODES: Final = {"node-1": ("16G", "16G"), "node-2": ("16G", "16G")}
_TICK: Final = 1.0


def main() -> int:
    """Bring it up, say how to use it, and keep it."""
    signal.signal(signal.SIGTERM, _terminate)
    signal.signal(signal.SIGHUP, _terminate)
    try:
        with Cluster(_NODES) as cluster:
            cluster.install(VALUES)
            Driver(cluster).wait_pool(*cluster.nodes)
            print(_usage(cluster), flush=True)
            while True:
                time.sleep(_TICK)
                cluster.check()
    except KeyboardInterrupt:
        return 128 + signal.SIGINT


def _usage(cluster: Cluster) -> str:
    disks = "\n".join(f"  {name}: {', '.join(cluster.disks(name))}" for name in cluster.nodes)
    return f"""
The cluster is up until Ctrl-C. In another shell, as root:

  export KUBECONFIG={cluster.kubeconfig} PATH={programs().path("").rstrip("/")}:$PATH
  ip netns exec {cluster.namespace} kubectl get nodes
  ip netns exec {cluster.namespace} helm list --all-namespaces

Blank disks:
{disks}
"""


def _terminate(number: int, _frame: FrameType | None) -> NoReturn:
    sys.exit(128 + number)  # unwinds, so that guests and files go


if __name__ == "__main__":
    sys.exit(main())
