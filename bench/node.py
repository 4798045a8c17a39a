"""The node as a process of its own: as the DaemonSet runs it, or on a pools file."""

import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final

from bench.account import in_pod
from bench.our_pool import unmount_catalogs
from csi.cli.client import listening
from csi.units import KIB, MIB
from tests.faults.crash.process import NodeProcess
from tests.kernel.cli.conftest import Host
from tests.kernel.cli.test_cluster import Cluster
from tests.kernel.conftest import wait_until

_START: Final = 60.0
_POLL: Final = 0.005
_SETTLED: Final = 2.0
_TRIES: Final = 30
_SHOWN: Final = 3000


@contextmanager
def in_cluster(base: Path, disk: str) -> Iterator[Host]:
    """Run a node that follows a cluster, and yield it once it has told the cluster that its pool is ready."""
    (base / "kubelet").mkdir(parents=True)
    host = Host(base)
    cluster = Cluster(host, disk)
    stack = ExitStack()
    stack.enter_context(in_pod(cluster.api.server, base))
    # As a DaemonSet's pod, which has no kubeconfig.
    cluster.start("--registration-dir", str(host.registry), "--kubeconfig", "")
    try:
        try:
            wait_until(lambda: cluster.ready() or cluster.process.poll() is not None, _START)
        finally:
            if not cluster.ready():
                sys.stderr.write(host.log[-_SHOWN:])
        yield host
    finally:
        cluster.api.server.shutdown()
        for _ in range(3):
            cluster.api.watches.put([])
        host.end(cluster.process)
        cluster.api.server.server_close()
        stack.close()
        unmount_catalogs(base / "run")


def resident(host: Host) -> float:
    """Return the resident memory of the node's process in MiB, once it does not change any more."""
    (process,) = host.running
    before = -1.0
    for _ in range(_TRIES):
        now = _resident(process.pid)
        if now == before:
            break
        before = now
        time.sleep(_SETTLED)
    return now


def _resident(pid: int) -> float:
    """Read VmRSS (proc_pid_status(5))."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    (found,) = (line.split()[1] for line in lines if line.startswith("VmRSS:"))
    return int(found) * KIB / MIB


class Starter:
    """Starts and ends a node on a pools file again and again."""

    def __init__(self, base: Path, state: Path, pool: str, disk: str) -> None:
        base.mkdir()
        pools = base / "pools.yaml"
        pools.write_text(f"pools: [{{name: {pool}, devices: [{disk}], overprovisionRatio: 1000}}]\n")
        (base / "kubelet").mkdir()
        self._node = NodeProcess(base, state, pools, base / "kubelet")
        self.socket = self._node.socket

    def start(self) -> None:
        """Start it, and return as soon as it serves. Raise TimeoutError."""
        self._node.spawn()
        deadline = time.monotonic() + _START
        while not listening(self.socket):
            if time.monotonic() > deadline:
                message = f"the node does not serve after {_START:g} s"
                raise TimeoutError(message)
            time.sleep(_POLL)

    def stop(self, number: int) -> None:
        """End it with a signal."""
        self._node.stop(number)
        unmount_catalogs(self._node.run_dir)
