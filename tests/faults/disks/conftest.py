"""A node with two pools, each on a disk of its own, of which one can be told to fail."""

import contextlib
import shutil
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest

from csi.units import GIB
from tests.faults.crash.process import NodeProcess
from tests.faults.disks.callers import Callers
from tests.faults.disks.disk import Disk
from tests.kernel.conftest import run
from tests.kernel.volumes.served import loop_disk, pool_devices, remove_devices

_POOLS: Final = ("sick", "well")


@dataclass
class Ward:
    """The node, its disks, and who calls it."""

    node: NodeProcess
    sick: Disk
    callers: Callers


@pytest.fixture(scope="session")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make the pools once; return where their disks are, and the node's state."""
    base = tmp_path_factory.mktemp("prepared")
    with _disks(base):
        node = _node(base)
        node.start()
        node.stop(signal.SIGTERM)
        node.deactivate()
        for name in _POOLS:
            (base / name).rename(base / f"{name}.made")
            (base / name).touch()
    return base


@pytest.fixture
def ward(tmp_path: Path, prepared: Path) -> Iterator[Ward]:
    """Run a node with the pools ``sick`` and ``well``; afterwards nothing of it is left."""
    with _disks(tmp_path, prepared) as (sick, _):
        shutil.copytree(prepared / "state", tmp_path / "state")
        node = _node(tmp_path)
        node.start()
        callers = Callers(node.socket, node.kubelet)
        yield Ward(node, sick, callers)
        _take_away(node, callers, sick)


@contextlib.contextmanager
def _disks(base: Path, prepared: Path | None = None) -> Iterator[list[Disk]]:
    """Have a disk for each pool, blank or with what was ``prepared``."""
    with contextlib.ExitStack() as stack:
        disks = []
        for name in _POOLS:
            below = stack.enter_context(loop_disk(base / name, 2 * GIB))
            if prepared is not None:
                run("cp", "--sparse=always", str(prepared / f"{name}.made"), str(base / name))
            disks.append(Disk(f"test-{name}", below))
            stack.callback(disks[-1].remove)
        yield disks


def _node(base: Path) -> NodeProcess:
    """Return a node on both disks, not started."""
    kubelet = base / "kubelet"
    kubelet.mkdir()
    pools = base / "pools.yaml"
    entries = (f"{{name: {name}, devices: [/dev/mapper/test-{name}], overprovisionRatio: 20}}" for name in _POOLS)
    pools.write_text(f"pools: [{', '.join(entries)}]\n")
    return NodeProcess(base, base / "state", pools, kubelet)


def _take_away(node: NodeProcess, callers: Callers, sick: Disk) -> None:
    """Take away whatever a test has left, in whatever state."""
    sick.is_well()
    with contextlib.suppress(AssertionError):  # it may have ended
        node.stop(signal.SIGKILL)
    callers.leave()
    for mount in (*node.run_dir.glob("*/catalog"), node.run_dir):
        callers.unmount(mount)
    for pool_id in {name.replace("--", "-").split("-")[1] for name in pool_devices()}:
        remove_devices(pool_id)
