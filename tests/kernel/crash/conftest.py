"""What the tests of crashes share: one pool, served by one node after the other, and what no crash may touch."""

import hashlib
import subprocess
from collections.abc import Iterator

import pytest

from csi.settings import PoolSpec
from csi.units import GIB
from csi.volumes.node import Node
from tests.kernel.crash.engine import Engine
from tests.kernel.crash.scene import DATA, Scene, read, write
from tests.kernel.volumes.served import loop_disk, pool_devices, pools_on, remove_devices


@pytest.fixture(scope="session")
def session_scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    """Make the pool, and in it a volume in use, a snapshot of it, and a raw block volume at rest."""
    base = tmp_path_factory.mktemp("crash")
    with loop_disk(base / "disk", 4 * GIB) as disk:
        # Templates have tests of their own: here it is known at which volume a snapshot is cut.
        spec = PoolSpec("default", devices=(disk,), overprovision_ratio=20.0, templates=False)
        engine = Engine(base, spec)
        scene = Scene(engine, engine.start())
        try:
            furnish(scene)
            yield scene
        finally:
            if scene.started.alive:
                scene.started.kill()
            remove(engine)


@pytest.fixture(scope="module")
def module_scene(session_scene: Scene) -> Iterator[Scene]:
    """Lend the pool to a file of tests; afterwards its data is there, also what was not in use."""
    yield session_scene
    expected = hashlib.sha256(DATA).hexdigest()
    _, kept, idle = session_scene.fixed
    with session_scene.copied(kept) as path:
        assert read(f"{path}/data") == expected
    with session_scene.copied(idle) as path:
        assert read(path) == expected


@pytest.fixture
def scene(module_scene: Scene) -> Iterator[Scene]:
    """Lend the pool to a test; nothing of it is left over afterwards, and nothing else lost."""
    yield module_scene
    module_scene.clean()
    module_scene.settled()
    (path,) = module_scene.staged
    assert read(f"{path}/data") == hashlib.sha256(DATA).hexdigest()


def furnish(scene: Scene) -> None:
    keeper = scene.volume()
    scene.fixed.append(keeper)
    write(f"{scene.stage(keeper)}/data")
    scene.fixed.append(scene.do(Node.create_snapshot, "kept", keeper.handle))
    idle = scene.volume(block=True)
    scene.fixed.append(idle)
    write(scene.stage(idle))
    scene.unstage(idle)


def remove(engine: Engine) -> None:
    """Take everything of a node that is dead out of the kernel; other pools stay."""
    for mount in (*engine.kubelet.glob("*"), *engine.run_dir.glob("*/catalog"), engine.run_dir):
        subprocess.run(["umount", "--quiet", str(mount)], check=False, timeout=60)
    for pool_id in {each for disk in engine.spec.devices for each in pools_on(disk)}:
        remove_devices(pool_id)
        assert not [name for name in pool_devices() if pool_id in name]
