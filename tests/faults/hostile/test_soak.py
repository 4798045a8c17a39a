"""A crowd of clients for a while, and all that the node holds afterwards is what it held before."""

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest

from csi.rpc.server import QUICK_WORKERS, WORKERS
from csi.units import MIB
from tests.faults.crash.process import NodeProcess
from tests.faults.hostile.canary import outside
from tests.faults.hostile.crowd import Crowd
from tests.faults.rounds import rounds, tell
from tests.kernel.conftest import run

GUEST: Final[list[str]] = []
"""One of its own: memory, threads and forks are looked at."""

_SECONDS: Final = 30
_WARM: Final = 20
"""Seconds after which the node has every thread, and what memory it keeps."""
_CLIENTS: Final = 64
_TRIES: Final = 3
_PATIENCE: Final = 60
_GROWTH: Final = 16 * MIB
"""What may come to memory after the warm-up, however long all takes."""
_GRPC_KEEPS: Final = 4
"""Threads that gRPC's library may keep beyond those of an idle server: it has more or less of them as it sees fit."""


@dataclass(frozen=True)
class Held:
    """What a node holds."""

    descriptors: int
    devices: tuple[str, ...]
    mounts: tuple[str, ...]


@dataclass(frozen=True)
class Threads:
    """A node's threads: Python's have the process's name, gRPC's library gives its own others."""

    python: int
    grpc: int


@pytest.fixture
def node(tmp_path: Path) -> Iterator[NodeProcess]:
    """Serve a pool on the guest's first disk."""
    disk = os.environ["THINPOOL_TEST_DISKS"].split()[0]
    pools = tmp_path / "pools.yaml"
    pools.write_text(f"pools: [{{name: default, devices: [{disk}], overprovisionRatio: 100}}]\n")
    kubelet = tmp_path / "kubelet"
    kubelet.mkdir()
    made = NodeProcess(tmp_path, tmp_path / "state", pools, kubelet)
    made.start()
    yield made
    made.stop(signal.SIGTERM)
    subprocess.run(["umount", "--recursive", str(made.run_dir)], check=False, timeout=60)


@pytest.mark.timeout(0)
def test_a_crowd_leaves_the_node_as_it_was(node: NodeProcess) -> None:
    given = rounds(_SECONDS)
    dice = given.dice()
    crowd = Crowd(node.socket, node.kubelet)
    idle = _threads(node)
    crowd.run(_CLIENTS, _WARM, dice)
    crowd.clear()
    # What is kept from a first use grows once, and what leaks each time.
    for _ in range(_TRIES):
        before, memory = _held(node), _memory(node)
        crowd.run(_CLIENTS, given.count, dice)
        crowd.clear()
        grown = _memory(node) - memory
        tell(f"{sum(crowd.answers.values())} answers; {memory} bytes and {grown} more; {idle} and {_threads(node)}")
        if grown < _GROWTH:
            break
    for (method, code), count in sorted(crowd.answers.items()):
        tell(f"{method} {code} {count}")
    assert not crowd.wrong, "\n".join(crowd.wrong[:20])
    assert grown < _GROWTH
    # Threads for calls are made as they are needed, and stay; gRPC's own end when they have been idle for a while.
    most = Threads(idle.python + WORKERS + QUICK_WORKERS, idle.grpc + _GRPC_KEEPS)
    deadline = time.monotonic() + _PATIENCE
    while True:
        after, threads = _held(node), _threads(node)
        same = (after.devices, after.mounts) == (before.devices, before.mounts)
        few = after.descriptors <= before.descriptors and threads.python <= most.python and threads.grpc <= most.grpc
        if same and few:
            break
        assert time.monotonic() < deadline, f"{before}\nbecame\n{after}; {threads}, at most {most}"
        time.sleep(0.1)


def _home(node: NodeProcess) -> Path:
    assert node._process is not None
    return Path(f"/proc/{node._process.pid}")


def _held(node: NodeProcess) -> Held:
    home = _home(node)
    devices = sorted(line.split()[0] for line in run("dmsetup", "ls").splitlines())
    mounts = outside("nowhere")
    return Held(len(os.listdir(home / "fd")), tuple(devices), tuple(mounts))


def _threads(node: NodeProcess) -> Threads:
    home = _home(node)
    own = (home / "comm").read_text()
    names = []
    for task in os.listdir(home / "task"):
        # A thread may end between the list and the look.
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            names.append((home / "task" / task / "comm").read_text())
    return Threads(names.count(own), len(names) - names.count(own))


def _memory(node: NodeProcess) -> int:
    return int((_home(node) / "statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")
