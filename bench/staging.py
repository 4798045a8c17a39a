"""Taking a volume into use, over the programs that cannot be done without."""

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from bench.calls import stage, unstage
from bench.rig import Rig
from bench.sample import Sample, timed
from csi.fs import mkfs
from csi.model import Device, FsType
from csi.process import run as run_program
from csi.units import GIB, MIB, Bytes

_SIZE: Final = Bytes(GIB)
_DEADLINE: Final = 120.0

_Seconds = defaultdict[str, list[float]]


def run(rig: Rig) -> None:
    """Stage volumes of new shapes and of one seen before, stage again, and run the bare programs, in turns."""
    seconds: _Seconds = defaultdict(list)
    count = rig.few(20, 2)
    # One more, which warms up: before it, the shape of the volumes has not been seen.
    _round(rig, count, defaultdict(list))
    for number in range(count):
        rig.report.tell(f"stagings, {number} of {count}")
        _round(rig, number, seconds)
    for name, ours, tools in (
        ("stage_vs_tools", "new", "mkfs"),
        ("restage_vs_tools", "formatted", "e2fsck"),
        ("stage_templated", "templated", "mkfs"),
    ):
        took, theirs = Sample.of(seconds[ours]), Sample.of(seconds[tools])
        rig.report.add(name, took.median / theirs.median, ours=took, tools=theirs)


def _round(rig: Rig, number: int, seconds: _Seconds) -> None:
    ours, served = rig.ours, rig.ours.served
    # Of a size that no volume had, so that there is no template, and one is kept.
    plain = served.create(ours.name("staged"), _SIZE + (number + 1) * MIB)
    shaped = served.create(ours.name("staged"), _SIZE)
    bare = served.create(ours.name("staged"), _SIZE, block=True)
    seconds["new"].append(_staged(rig, plain))
    seconds["formatted"].append(_staged(rig, plain))
    seconds["templated"].append(_staged(rig, shaped))
    target = served.base / "bare"
    target.mkdir(exist_ok=True)
    with served.raw(bare) as path:
        make = [*mkfs.command(FsType.EXT4, mkfs.kernel_of(mkfs.AUTO)), path]
        seconds["mkfs"].append(_programs(make, _mount(path, target)))
        run_program(["umount", str(target)], deadline=_DEADLINE)
    with served.raw(plain) as path:
        seconds["e2fsck"].append(_programs(["e2fsck", "-p", path], _mount(path, target)))
        run_program(["umount", str(target)], deadline=_DEADLINE)
    ours.delete([plain, shaped, bare])


def _staged(rig: Rig, device: Device) -> float:
    """Stage a volume, as the kubelet does, and unstage it; return the seconds of the staging."""
    socket, volume, path = rig.ours.socket, str(device.handle), rig.ours.served.path(f"staged-{device.handle}")
    Path(path).mkdir(parents=True, exist_ok=True)
    return rig.caller.calls([stage(socket, volume, path), unstage(socket, volume, path)])[0].seconds


def _mount(device: str, target: Path) -> Sequence[str]:
    return ["mount", "-t", "ext4", device, str(target)]


def _programs(*commands: Sequence[str]) -> float:
    """Run programs one after the other, as the driver runs its own; return the seconds."""
    return sum(timed(lambda command=command: run_program(command, deadline=_DEADLINE)) for command in commands)  # type: ignore[misc]
