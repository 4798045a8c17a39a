"""What the tests of volumes share: a node whose pool stays open over a file's tests, nodes on pools of their own."""

import contextlib
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from types import ModuleType

import pytest

from csi.dm.freezer import Freezer
from csi.settings import PoolSpec
from csi.units import GIB, MIB
from tests.kernel.volumes.gate import Gate, GateAt
from tests.kernel.volumes.served import Served, loop_disk, remove_devices

MakeServed = Callable[..., Served]


@pytest.fixture(scope="session")
def shared_freezer() -> Iterator[Freezer]:
    """Start the guard once: it must be forked while there are few threads."""
    freezer = Freezer.start()
    yield freezer
    freezer.close()


@pytest.fixture(scope="module")
def make_module_served(tmp_path_factory: pytest.TempPathFactory, shared_freezer: Freezer) -> Iterator[MakeServed]:
    """Return the function of ``make_served`` for nodes that stay open over the file's tests."""
    with contextlib.ExitStack() as stack:
        yield _maker(stack, tmp_path_factory, shared_freezer)


@pytest.fixture
def make_served(tmp_path_factory: pytest.TempPathFactory, shared_freezer: Freezer) -> Iterator[MakeServed]:
    """Return a function that opens a node on a new disk of so many MiB; the fields are those of its PoolSpec."""
    with contextlib.ExitStack() as stack:
        yield _maker(stack, tmp_path_factory, shared_freezer)


@pytest.fixture(scope="module")
def module_served(make_module_served: MakeServed) -> Served:
    """Open a node on a pool of 4 GiB, of which only what is written exists."""
    return make_module_served(4 * GIB // MIB, overprovision_ratio=20.0)


@pytest.fixture
def served(module_served: Served) -> Iterator[Served]:
    """Lend the file's node to a test, empty before and after."""
    module_served.reopen()
    yield module_served
    module_served.reopen()
    module_served.clear()


@pytest.fixture
def executor() -> Iterator[ThreadPoolExecutor]:
    """Return threads for those who ask at once."""
    with ThreadPoolExecutor(64) as threads:
        yield threads


@pytest.fixture
def gate_at(monkeypatch: pytest.MonkeyPatch) -> GateAt:
    """Return a function that puts a gate at a step of a module."""

    def put(module: ModuleType, step: str) -> Gate:
        gate = Gate(step)
        monkeypatch.setattr(module, "hit", gate.hit)
        return gate

    return put


def _maker(stack: contextlib.ExitStack, paths: pytest.TempPathFactory, freezer: Freezer) -> MakeServed:
    def make(mib: int, *, discards: bool = True, agent: bool = True, **fields: object) -> Served:
        base = paths.mktemp("served")
        disk = stack.enter_context(loop_disk(base / "disk", mib * MIB, discards=discards))
        # Without templates, unless asked for: what a volume has mapped is its own, and can be written on a full pool.
        spec = PoolSpec("default", devices=(disk,), **{"templates": False, **fields})  # type: ignore[arg-type]
        served = Served(base, spec, freezer)
        served.open(agent=agent)
        stack.callback(_finish, served, served.pool.id)
        return served

    return make


def _finish(served: Served, pool_id: str) -> None:
    """Take everything of the node out of the kernel, whatever state a test left it in."""
    served.stop()
    remove_devices(pool_id, patience=0)
    served.unmount(lazy=True)
    for mount in (*served.place.run_dir.glob("*/catalog"), served.place.run_dir):
        subprocess.run(["umount", "--lazy", str(mount)], check=False, capture_output=True, timeout=30)
    remove_devices(pool_id)
