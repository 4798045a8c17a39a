"""A crowd of clients for a while, and all that the node holds afterwards is what it held before."""

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
from tests.faults.rounds import rounds
from tests.kernel.conftest import run

GUEST: Final[list[str]] = []
"""One of its own: memory, threads and forks are looked at."""

_SECONDS: Final = 30
_WARM: Final = 20
"""Seconds after which the node has every thread, and what memory it keeps."""
_CLIENTS: Final = 64
_PATIENCE: Final = 60
_GROWTH: Final = 16 * MIB
"""What may come to memory after the warm-up, however long all takes."""


@dataclass(frozen=True)
class Held:
    """What a node holds."""

    descriptors: int
    devices: tuple[str, ...]
    mounts: tuple[str, ...]


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
    before, memory = _held(node), _memory(node)
    crowd.run(_CLIENTS, given.count, dice)
    crowd.clear()
    print(  # noqa: T201
        f"SEED={given.seed}: {sum(crowd.answers.values())} answers, "
        f"{memory} bytes, then {_memory(node)}; {idle} threads, then {_threads(node)}"
    )
    for (method, code), count in sorted(crowd.answers.items()):
        print(f"{method} {code} {count}")  # noqa: T201
    assert not crowd.wrong, "\n".join(crowd.wrong[:20])
    deadline = time.monotonic() + _PATIENCE
    while (after := _held(node)) != before:
        assert time.monotonic() < deadline, f"{before}\nbecame\n{after}"
        time.sleep(0.1)
    assert _memory(node) - memory < _GROWTH
    # Those for calls are made as they are needed, and stay.
    assert _threads(node) <= idle + WORKERS + QUICK_WORKERS


def _home(node: NodeProcess) -> Path:
    assert node._process is not None
    return Path(f"/proc/{node._process.pid}")


def _held(node: NodeProcess) -> Held:
    home = _home(node)
    devices = sorted(line.split()[0] for line in run("dmsetup", "ls").splitlines())
    mounts = outside("nowhere")
    return Held(len(os.listdir(home / "fd")), tuple(devices), tuple(mounts))


def _threads(node: NodeProcess) -> int:
    return len(os.listdir(_home(node) / "task"))


def _memory(node: NodeProcess) -> int:
    return int((_home(node) / "statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")
