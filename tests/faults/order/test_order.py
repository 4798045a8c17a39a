"""At every flush of the pool's disk, a power cut leaves a pool that opens, with all that had been answered by then."""

import hashlib
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import pytest

from csi.dm.ioctl import Control
from csi.dm.targets import Line
from csi.model import Device, FsType
from csi.settings import PoolSpec
from csi.units import Bytes, Sectors
from csi.volumes.node import Node
from tests.faults.order.record import Entry, apply, entries
from tests.faults.rounds import rounds, tell
from tests.kernel.conftest import run
from tests.kernel.crash.conftest import remove
from tests.kernel.crash.engine import Engine
from tests.kernel.crash.scene import DATA, SIZE, Scene, give_back, look, read, write

GUEST = ["--disk", "2G"]
"""After the two that every guest has: the pool's own, small enough to be copied."""

_RECORD, _IMAGES, _POOL = "/dev/ubda", "/dev/ubdb", "/dev/ubdc"
_NAME: Final = "test-recorded"
_REPLAYS: Final = 12
_SUM: Final = hashlib.sha256(DATA).hexdigest()

pytestmark = pytest.mark.timeout(3600)


class Recorder:
    """The pool's disk behind a device that records what is written, in which order."""

    def __init__(self, control: Control) -> None:
        self._control = control
        self.path = ""

    @contextmanager
    def recording(self) -> Iterator[None]:
        """Record while the body runs."""
        size = Path("/sys/block/ubdc/size").read_text().strip()
        run("modprobe", "dm-log-writes")
        self._control.create(_NAME)
        self._control.load(_NAME, [Line(Sectors(0), Sectors(int(size)), "log-writes", f"{_POOL} {_RECORD}")])
        self._control.resume(_NAME)
        info = self._control.info(_NAME)
        assert info is not None
        self.path = f"/dev/dm-{info.number.partition(':')[2]}"
        yield
        self._control.remove(_NAME)

    def mark(self, text: str) -> None:
        """Note in the record what has been answered."""
        run("dmsetup", "message", _NAME, "0", "mark", text)


@pytest.fixture
def images(tmp_path: Path) -> Iterator[Path]:
    """Mount a file system in which a copy of an image costs nothing."""
    run("mkfs.xfs", "-q", "-f", _IMAGES)
    place = tmp_path / "images"
    place.mkdir()
    run("mount", _IMAGES, str(place))
    yield place
    run("umount", str(place))


def _work(scene: Scene, recorder: Recorder) -> dict[str, Device]:
    """Do one of each, and mark it as soon as it is answered; return what was made by its mark."""
    made: dict[str, Device] = {}

    def answered(name: str, device: Device) -> Device:
        made[name] = device
        recorder.mark(name)
        return device

    first = answered("volume", scene.volume(fs_type=FsType.EXT4))
    place = scene.stage(first)
    write(f"{place}/data")
    recorder.mark("written")
    snapshot = answered("snapshot", scene.do(Node.create_snapshot, "snapshot", first.handle))
    block = answered("block", scene.volume(block=True))
    write(scene.stage(block))
    recorder.mark("block-written")
    for number, member in enumerate(scene.do(Node.create_group, "group", [first.handle, block.handle]).members):
        answered(f"member-{number}", member)
    answered("restored", scene.copy(snapshot, 2 * SIZE))
    answered("clone", scene.copy(block))
    made["grown"] = scene.do(Node.expand_volume, first.handle, Bytes(4 * SIZE), Bytes(0))
    recorder.mark("grown")
    doomed = answered("doomed", scene.volume(block=True))
    scene.do(Node.delete_volume, doomed.handle)
    recorder.mark("deleted")
    scene.do(give_back)
    scene.unstage(block)
    return made


def _holds(scene: Scene, made: dict[str, Device], marks: set[str]) -> None:
    """See that a pool that was opened has all that was answered before ``marks``' last."""
    sight = scene.do(look)
    assert not sight.guard, sight.guard
    scene.do(give_back)
    sight = scene.do(look)
    there = {device.handle: device for device in sight.devices}
    assert sight.present == {handle.thin for handle in there}, "left over or lost in the pool"
    for name, device in made.items():
        if name == "doomed" and "deleted" in marks:
            assert device.handle not in there
        elif name in marks and name != "doomed":
            assert there[device.handle].size >= device.size, name
    if "written" in marks:
        with scene.copied(made["volume"]) as place:
            assert read(f"{place}/data") == _SUM
    if "snapshot" in marks:
        with scene.copied(made["snapshot"]) as place:
            assert read(f"{place}/data") == _SUM
    if "block-written" in marks:
        with scene.copied(made["block"]) as place:
            assert read(place) == _SUM


def test_a_power_cut_at_any_flush_leaves_all_that_was_answered(tmp_path: Path, images: Path) -> None:
    times = rounds(_REPLAYS)
    control = Control()
    recorder = Recorder(control)
    base = tmp_path / "recorded"
    base.mkdir()
    engine = Engine(base, PoolSpec("default", devices=(_POOL,), overprovision_ratio=20.0))
    started = engine.start()
    started.do(Node.deactivate)
    started.stop()
    image = images / "image"
    run("dd", f"if={_POOL}", f"of={image}", "bs=4M", "conv=sparse", "status=none")
    with recorder.recording():
        engine = Engine(base, PoolSpec("default", devices=(recorder.path,), overprovision_ratio=20.0))
        scene = Scene(engine, engine.start())
        made = _work(scene, recorder)
        scene.started.kill()
        remove(engine)
    record = list(entries(_RECORD))
    points = [number for number, entry in enumerate(record) if entry.durable]
    wanted = sorted(times.dice().sample(points, min(times.count, len(points))))
    tell(f"{len(record)} entries, {len(points)} points, {len(wanted)} of them replayed")
    _replay(record, wanted, image, tmp_path, made)


def _replay(record: list[Entry], wanted: list[int], image: Path, base: Path, made: dict[str, Device]) -> None:
    marks: set[str] = set()
    done = 0
    source, target = os.open(_RECORD, os.O_RDONLY), os.open(image, os.O_RDWR)
    for number in wanted:
        for entry in record[done : number + 1]:
            apply(entry, source, target)
            marks.add(entry.mark)
        done = number + 1
        copy = image.with_name("copy")
        run("cp", "--reflink=always", str(image), str(copy))
        disk = run("losetup", "--find", "--show", str(copy)).strip()
        place = base / f"replay-{number}"
        place.mkdir()
        engine = Engine(place, PoolSpec("default", devices=(disk,), overprovision_ratio=20.0))
        scene = Scene(engine, engine.start())
        try:
            _holds(scene, made, marks)
        except AssertionError:
            sys.stderr.write(f"at entry {number}, after {sorted(marks)}\n")
            raise
        finally:
            scene.started.kill()
            remove(engine)
            run("losetup", "--detach", disk)
            copy.unlink()
    os.close(source)
    os.close(target)
