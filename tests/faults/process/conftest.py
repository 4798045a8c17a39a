"""A node as a process of its own, with one pool on the guest's first disk."""

import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from tests.faults.crash.process import NodeProcess

_POOL: Final = "/dev/ubda"


@pytest.fixture
def pool_options() -> str:
    """Return what is said of the pool besides; a test may say otherwise."""
    return ""


@pytest.fixture
def node(tmp_path: Path, pool_options: str) -> Iterator[NodeProcess]:
    """Run a node with one pool."""
    kubelet = tmp_path / "kubelet"
    kubelet.mkdir()
    pools = tmp_path / "pools.yaml"
    pools.write_text(f"pools: [{{name: default, {pool_options}devices: [{_POOL}], overprovisionRatio: 100}}]\n")
    made = NodeProcess(tmp_path, tmp_path / "state", pools, kubelet)
    made.start()
    yield made
    made.stop(signal.SIGTERM)
    made.deactivate()
    subprocess.run(["wipefs", "--all", "--quiet", _POOL], check=True, timeout=60)
