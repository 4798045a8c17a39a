"""A crash during a start, of a pool that is being made or of one with open intents, is made good by the next start."""

import pytest

from csi.settings import PoolSpec
from csi.units import MIB
from csi.volumes.node import Node
from csi.volumes.requests import VolumeRequest
from tests.kernel.crash.conftest import remove
from tests.kernel.crash.engine import Engine
from tests.kernel.crash.scene import SIZE, Scene
from tests.kernel.volumes.served import loop_disk

# One start comes to the next: each of these leaves what the one before has done.
ADOPTING = [
    "adopt.after-mkfs",
    "adopt.after-formatted",
    "adopt.after-mount",
    "adopt.after-catalog-written",
    "adopt.after-catalog",
    "adopt.after-transaction-id",
    "adopt.after-sentinel",
]
RECOVERING = [
    "recover.after-cover",
    "recover.after-begin",
    "recover.after-groups",
    "recover.after-snapshots",
    "recover.after-volumes",
]


def test_a_new_pool_is_made_by_as_many_starts_as_it_takes(tmp_path_factory: pytest.TempPathFactory) -> None:
    base = tmp_path_factory.mktemp("adopted")
    with loop_disk(base / "disk", 1024 * MIB) as disk:
        engine = Engine(base, PoolSpec("default", devices=(disk,)))
        try:
            for point in ADOPTING:
                engine.dies_at_start(point)
            scene = Scene(engine, engine.start())
            volume = scene.volume(SIZE)
            scene.stage(volume)
            scene.restart()
            scene.settled()
            scene.clean()
            scene.settled()
            scene.do(Node.deactivate)
            scene.started.stop()
        finally:
            remove(engine)


@pytest.mark.parametrize("point", ["cut.after-message", "group.after-thaw", "create.after-intent"])
def test_recovery_that_is_cut_short_again_and_again_comes_to_its_end(scene: Scene, point: str) -> None:
    name, source = scene.name(), scene.fixed[0].handle
    begun = {
        "cut.after-message": lambda: scene.started.dies_at(point, Node.create_snapshot, name, source),
        "group.after-thaw": lambda: scene.started.dies_at(point, Node.create_group, name, [source]),
        "create.after-intent": lambda: scene.started.dies_at(point, Node.create_volume, VolumeRequest(name, SIZE)),
    }
    begun[point]()
    for start in RECOVERING:
        scene.engine.dies_at_start(start)
    scene.started = scene.engine.start()
    sight = scene.settled()
    names = {device.name for device in sight.devices} - {device.name for device in scene.fixed}
    # A volume needs nothing that the crash has spoilt; what was cut is taken back whole.
    assert names == ({name} if point == "create.after-intent" else set())
