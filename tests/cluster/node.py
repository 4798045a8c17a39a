"""One node of the cluster: a guest that runs containerd and the kubelet, and the files that it reads."""

import json
import os
import shutil
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Final, Self

from tests.cluster import network
from tests.cluster.programs import Programs
from tests.cluster.system_disk import TEST_IMAGE, copy
from tests.guest.machine import ROOT, Guest, sparse_disk

GATES: Final = {"CSIVolumeHealth": True}
"""Features of Kubernetes that the tests want beyond those that are on."""

_SHARE: Final = "/run/shared"
_BOOT_LIMIT: Final = 600.0
_MEMORY_MIB: Final = 3072
_SCRIPT: Final = os.path.join(ROOT, "tests/cluster/node.sh")

_CONTAINERD: Final = """\
version = 3

[plugins.'io.containerd.cri.v1.images']
snapshotter = "overlayfs"
[plugins.'io.containerd.cri.v1.images'.pinned_images]
sandbox = "docker.io/library/{sandbox}"

[plugins.'io.containerd.cri.v1.runtime'.cni]
bin_dirs = ["/usr/lib/cni"]
conf_dir = "{directory}/cni"
"""


class Node:
    """A node and its disks; a context manager that leaves nothing running.

    ``name`` is the node's in the cluster, ``number`` (from 1) gives its addresses, ``directory`` is where its disks and
    its share with this machine lie. ``system`` is the disk that its first is a copy of; ``sizes`` are those of its
    blank data disks: /dev/ubdb, /dev/ubdc and so on.
    """

    def __init__(
        self, name: str, number: int, directory: str, namespace: str, *, system: str, sizes: Sequence[str]
    ) -> None:
        self.name = name
        self.address = network.node_address(number)
        self._number = number
        self._system = system
        self._sizes = list(sizes)
        self._directory = directory
        self.share = os.path.join(directory, "share")
        os.makedirs(os.path.join(self.share, "cni"))
        self._disks = [os.path.join(directory, f"disk{place}") for place in range(len(sizes) + 1)]
        self._make_disks()
        self._guest = Guest(
            self._disks,
            memory_mib=_MEMORY_MIB,
            udev=True,
            environment={"NODE": _SHARE},
            share=self.share,
            link=network.link(namespace, number),
        )

    def __enter__(self) -> Self:
        self._guest.__enter__()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._guest.__exit__(kind, error, at)

    def configure(self, programs: Programs, *, nodes: int, kubeconfig: str, authority: str) -> None:
        """Write what the guest reads: its own addresses and those of so many nodes, and its way to the API server."""
        shutil.copy(authority, os.path.join(self.share, "ca.crt"))
        routes = [
            f"{network.pod_range(other)} via {network.node_address(other)}"
            for other in range(1, nodes + 1)
            if other != self._number
        ]
        variables = {
            "PATH": f"{programs.path('')}:/usr/sbin:/usr/bin:/sbin:/bin",
            "NAME": self.name,
            "ADDRESS": f"{self.address}/24",
            "GATEWAY": network.GATEWAY,
            "ROUTES": "\n".join(routes),
        }
        self._write("environment", "".join(f"export {name}='{value}'\n" for name, value in variables.items()))
        self._write("containerd.toml", _CONTAINERD.format(sandbox=TEST_IMAGE, directory=_SHARE))
        self._write("cni/10-pods.conflist", json.dumps(_pod_network(network.pod_range(self._number))))
        self._write("kubelet.yaml", json.dumps(_kubelet()))
        self._write("kubeconfig", kubeconfig)

    def boot(self) -> None:
        """Begin to boot; :meth:`wait` waits for it."""
        self._guest.start(["sh", _SCRIPT])

    def wait(self) -> None:
        """Wait until the kubelet has been started. Raise GuestLostError or DeadlineError."""
        self._guest.wait_for("ready", deadline=_BOOT_LIMIT)

    def check(self) -> None:
        """Raise GuestLostError if the guest was booted and is gone without having been killed."""
        self._guest.check()

    def kill(self) -> None:
        """Cut the power."""
        self._guest.kill()

    def add_disk(self, size: str) -> str:
        """Add a blank disk while the node runs, and return its device's name there."""
        path = os.path.join(self._directory, f"disk{len(self._disks)}")
        self._disks.append(sparse_disk(path, size))
        self._sizes.append(size)
        return self._guest.add_disk(path)

    def replace_disks(self) -> None:
        """Put new disks of the same sizes in the place of all, as if it were another machine. It must not run."""
        for disk in self._disks:
            os.unlink(disk)
        self._make_disks()

    @property
    def disks(self) -> Mapping[str, str]:
        """The data disks: the device's name on the node, and the file that it is here."""
        return {f"/dev/ubd{chr(ord('a') + place)}": disk for place, disk in enumerate(self._disks) if place}

    def _make_disks(self) -> None:
        copy(self._system, self._disks[0])
        for disk, size in zip(self._disks[1:], self._sizes, strict=True):
            sparse_disk(disk, size)

    def _write(self, name: str, text: str) -> None:
        with open(os.path.join(self.share, name), "w") as file:
            file.write(text)


def _pod_network(addresses: str) -> dict[str, object]:
    # Which addresses are taken is kept in memory: after a power cut none is.
    ipam = {
        "type": "host-local",
        "dataDir": "/run/cni",
        "ranges": [[{"subnet": addresses}]],
        "routes": [{"dst": "0.0.0.0/0"}],
    }
    bridge = {"type": "bridge", "bridge": "pods", "isGateway": True, "ipMasq": False, "ipam": ipam}
    return {"cniVersion": "1.0.0", "name": "pods", "plugins": [bridge]}


def _kubelet() -> dict[str, object]:
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "authentication": {"x509": {"clientCAFile": f"{_SHARE}/ca.crt"}},
        "containerRuntimeEndpoint": "unix:///run/containerd/containerd.sock",
        # This kernel has no cpuset, and the limits of a node's own processes are not what is tested.
        "cgroupDriver": "cgroupfs",
        "enforceNodeAllocatable": [],
        "failSwapOn": False,
        "evictionHard": {"memory.available": "50Mi", "nodefs.available": "1%", "imagefs.available": "1%"},
        # No image can be fetched anew.
        "imageMinimumGCAge": "240h",
        "imageGCHighThresholdPercent": 100,
        "maxPods": 200,
        # A node that is gone is seen to be in half a minute, and a grown volume in seconds.
        "nodeStatusUpdateFrequency": "5s",
        "nodeLeaseDurationSeconds": 20,
        "syncFrequency": "10s",
        "volumeStatsAggPeriod": "20s",
        "featureGates": GATES,
    }
