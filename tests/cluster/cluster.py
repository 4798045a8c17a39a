"""A whole cluster: brought up, driven, and torn down so that nothing of it is left."""

import contextlib
import json
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Final, Self

from tests.cluster import network, system_disk
from tests.cluster.client import Client, CommandError, until
from tests.cluster.control_plane import ControlPlane
from tests.cluster.node import Node
from tests.cluster.process import tail
from tests.cluster.programs import programs
from tests.cluster.system_disk import TEST_IMAGE
from tests.guest.machine import ROOT, private_directory

CHART: Final = os.path.join(ROOT, "charts/thinpool-csi")
NAMESPACE: Final = "thinpool-csi"
RELEASE: Final = "thinpool-csi"

_READY_LIMIT: Final = 120.0
_TOOLBOX: Final = "toolbox"


def _print(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


class Cluster(Client):
    """A cluster; a context manager. ``nodes`` names the nodes and gives the sizes of their blank data disks.

    ``say`` is told how it comes up. Entering takes about a minute and a half, and where nothing has been built before,
    the time of that too.
    """

    def __init__(self, nodes: Mapping[str, Sequence[str]], *, say: Callable[[str], None] = _print) -> None:
        self._sizes = nodes
        self._tell = say
        self._begun = time.monotonic()
        self._stack = contextlib.ExitStack()
        self._nodes: dict[str, Node] = {}
        self._plane: ControlPlane | None = None

    def __enter__(self) -> Self:
        """Bring it up: all nodes are Ready and a pod runs on each."""
        try:
            self._enter()
        except BaseException:
            if self._plane is not None:
                self._tell(self.logs())
            self._stack.close()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Kill the guests, end the control plane, remove the network and all files."""
        self._stack.close()

    def _enter(self) -> None:
        built = programs()
        directory = self._stack.enter_context(private_directory())
        system = os.path.join(directory, "system")
        system_disk.provide(system, built)
        self._begun = time.monotonic()
        self.namespace = self._stack.enter_context(network.namespace(len(self._sizes)))
        plane = ControlPlane(built, self.namespace, os.path.join(directory, "control-plane"), list(self._sizes))
        self._plane = plane
        self._stack.callback(plane.close)
        self.kubeconfig = plane.kubeconfig_path("admin")
        super().__init__(built, self.namespace, self.kubeconfig, directory)
        plane.start()
        for number, (name, sizes) in enumerate(self._sizes.items(), start=1):
            place = os.path.join(directory, name)
            node = Node(name, number, place, self.namespace, system=system, sizes=sizes)
            node.configure(
                built,
                nodes=len(self._sizes),
                kubeconfig=plane.kubeconfig(name),
                authority=plane.certificate,
            )
            self._nodes[name] = self._stack.enter_context(node)
            node.boot()
        self._say("nodes are booting")
        plane.follow(self)
        self._say("the control plane is up")
        for node in self._nodes.values():
            node.wait()
            self._say(f"{node.name}: the kubelet has been started")
        self.apply(_toolbox())
        for name in self._nodes:
            self.wait_for_node(name)
            self._say(f"{name}: ready, and runs a pod")

    @property
    def nodes(self) -> tuple[str, ...]:
        """The nodes' names."""
        return tuple(self._nodes)

    def install(self, values: object = None) -> None:
        """Install this tree's chart by Helm, or upgrade it, and wait until its pods are ready."""
        self.helm(
            *("upgrade", "--install", RELEASE, CHART, "--namespace", NAMESPACE, "--create-namespace"),
            *("--values", "-", "--wait", "--timeout", "9m"),
            input=json.dumps(values or {}),
        )

    def kill_node(self, name: str) -> None:
        """Cut a node's power: what was not flushed to its disks is lost."""
        self._nodes[name].kill()

    def boot_node(self, name: str, *, blank: bool = False) -> None:
        """Boot a node that was killed, on its own disks or on blank ones, and wait until it runs pods again."""
        node = self._nodes[name]
        node.kill()
        if blank:
            node.replace_disks()
        node.boot()
        node.wait()
        self.wait_for_node(name)

    def wait_for_node(self, name: str, *, limit: float = _READY_LIMIT) -> None:
        """Wait until the node is Ready and commands can be run on it."""
        until(f"node {name} runs commands", lambda: self._runs(name), limit=limit)

    def add_disk(self, node: str, size: str) -> str:
        """Add a blank disk to a running node and return its device's name there."""
        return self._nodes[node].add_disk(size)

    def disks(self, node: str) -> Mapping[str, str]:
        """Return a node's data disks: the device's name there, and the file that it is on this machine."""
        return self._nodes[node].disks

    def address(self, node: str) -> str:
        """Return a node's address."""
        return self._nodes[node].address

    def run(self, node: str, *argv: str, limit: float = 60.0) -> str:
        """Run a command on a node itself, with all that this machine has installed, and return what it wrote.

        Raise CommandError if it fails.
        """
        words = ("nsenter", "-t", "1", "-m", "-u", "-i", "-n", "-p", "--", *argv)
        return self.kubectl("exec", "--namespace=kube-system", self._toolbox_of(node), "--", *words, limit=limit)

    def check(self) -> None:
        """Raise GuestLostError or EndedError if a part of the cluster went away by itself."""
        if self._plane is not None:
            self._plane.check()
        for node in self._nodes.values():
            node.check()

    def logs(self) -> str:
        """Return what helps to see why something failed: objects, events, the ends of logs."""
        parts = [
            self._shown("get", "nodes,pods,pvc,pv,volumesnapshots", "--all-namespaces", "--output=wide"),
            self._shown("get", "events", "--all-namespaces", "--sort-by=.lastTimestamp"),
            *(
                self._shown("logs", f"--namespace={NAMESPACE}", pod, "--all-containers", "--prefix", "--tail=60")
                for pod in self._shown("get", "pods", f"--namespace={NAMESPACE}", "--output=name").split()
                if pod.startswith("pod/")
            ),
        ]
        processes = self._plane.processes if self._plane else []
        parts += [f"== {process.name}\n{tail(process.log, 15)}" for process in processes]
        for node in self._nodes.values():
            parts += [f"== {node.name}, {name}\n{tail(f'{node.share}/{name}', 30)}" for name in _NODE_LOGS]
        return "\n".join(parts)

    def _output(self, argv: Sequence[str], text: str, limit: float) -> str:
        self.check()
        return super()._output(argv, text, limit)

    def _runs(self, name: str) -> bool:
        ready = '{.status.conditions[?(@.type=="Ready")].status}'
        if self.kubectl("get", "node", name, f"--output=jsonpath={ready}") != "True":
            return False
        return self.run(name, "hostname", limit=20).strip() == name

    def _toolbox_of(self, node: str) -> str:
        pods = self.get("pods", "--namespace=kube-system", f"--selector=app={_TOOLBOX}")["items"]
        for pod in pods:
            if pod["spec"].get("nodeName") == node and pod["status"]["phase"] == "Running":
                return str(pod["metadata"]["name"])
        raise CommandError(f"no toolbox runs on {node}")

    def _shown(self, *words: str) -> str:
        try:
            done = Client._output(self, ["kubectl", *words], "", 30)
        except CommandError as error:
            done = str(error)
        return f"== kubectl {' '.join(words)}\n{done}" if "--output=name" not in words else done

    def _say(self, what: str) -> None:
        self._tell(f"cluster: {time.monotonic() - self._begun:5.1f} s  {what}")


_NODE_LOGS: Final = ("node.log", "containerd.log", "kubelet.log")


def _toolbox() -> dict[str, object]:
    """Return a pod for each node from which commands are run on the node itself."""
    container = {"name": _TOOLBOX, "image": TEST_IMAGE, "securityContext": {"privileged": True}}
    pod = {
        "hostPID": True,
        "hostNetwork": True,
        "terminationGracePeriodSeconds": 0,
        "tolerations": [{"operator": "Exists"}],
        "containers": [container],
    }
    labels = {"app": _TOOLBOX}
    return {
        "apiVersion": "apps/v1",
        "kind": "DaemonSet",
        "metadata": {"name": _TOOLBOX, "namespace": "kube-system"},
        "spec": {
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": pod},
        },
    }
