"""The cluster's network: a namespace with a bridge, and on it a tap device for each node's guest.

Nothing of it can be reached from outside, nor does anything in it reach out. Pods have addresses of their own node's
range and are routed, not translated; there is no kube-proxy: the first service address, which is the API server's,
lies on the namespace's loopback, and no other service address works.
"""

import contextlib
import os
import re
import subprocess
from collections.abc import Iterator, Sequence
from typing import Final

from tests.guest.machine import Link

GATEWAY: Final = "10.77.0.1"
"""The control plane, and the nodes' and pods' way to it."""
NODES: Final = "10.77.0.0/24"
SERVICES: Final = "10.96.0.0/16"
API: Final = "10.96.0.1"
"""Where pods find the API server."""
PODS: Final = "10.244.0.0/16"

_PREFIX: Final = "thinpool-csi-"
_LIMIT: Final = 20.0


def node_address(number: int) -> str:
    """Return the address of node ``number``, counted from 1."""
    return f"10.77.0.{10 + number}"


def pod_range(number: int) -> str:
    """Return the addresses of the pods of node ``number``."""
    return f"10.244.{number}.0/24"


def link(namespace: str, number: int) -> Link:
    """Return the network device of node ``number``."""
    return Link(namespace, f"node{number}")


def inside(namespace: str) -> tuple[str, ...]:
    """Return the words that, before a command, run it in the namespace."""
    return ("nsenter", f"--net=/run/netns/{namespace}", "--")


@contextlib.contextmanager
def namespace(nodes: int) -> Iterator[str]:
    """Make the namespace for so many nodes, and remove it at the end; its name tells whose it is."""
    _sweep()
    name = f"{_PREFIX}{os.getpid()}"
    _ip("netns", "add", name)
    try:
        _furnish(name, nodes)
        yield name
    finally:
        _ip("netns", "delete", name)


def _furnish(name: str, nodes: int) -> None:
    here = ("-n", name)
    _ip(*here, "link", "set", "lo", "up")
    _ip(*here, "address", "add", f"{API}/32", "dev", "lo")
    _ip(*here, "link", "add", "nodes", "type", "bridge")
    _ip(*here, "address", "add", f"{GATEWAY}/24", "dev", "nodes")
    _ip(*here, "link", "set", "nodes", "up")
    for number in range(1, nodes + 1):
        tap = link(name, number).tap
        _ip(*here, "tuntap", "add", "dev", tap, "mode", "tap")
        _ip(*here, "link", "set", tap, "master", "nodes", "up")
        _ip(*here, "route", "add", pod_range(number), "via", node_address(number))


def _sweep() -> None:
    """Remove the namespaces of makers that were killed; what ran in them was killed with its maker."""
    for entry in _ip("netns", "list").splitlines():
        match = re.match(rf"{_PREFIX}(\d+)\b", entry)
        if match and not os.path.exists(f"/proc/{match[1]}"):
            _ip("netns", "delete", match[0])


def _ip(*words: str) -> str:
    return _output(["ip", *words])


def _output(argv: Sequence[str]) -> str:
    return subprocess.run(argv, stdout=subprocess.PIPE, text=True, check=True, timeout=_LIMIT).stdout
