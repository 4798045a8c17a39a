"""Whether the ten-thousandth volume costs more than the tenth."""

from collections import defaultdict
from typing import Final

from bench.our_pool import SIZE, OurPool
from bench.rig import Rig
from bench.sample import Sample, clocked
from csi.model import Device, Kind

CROWD: Final = 10_000
FEW: Final = 10
_COUNTS: Final = (FEW, 100, 1000, 3000, CROWD)
_LVM_COUNTS: Final = (FEW, 100, 300)
_SNAPSHOTS: Final = 10
"""One of so many is a snapshot, the others are clones."""


def run(rig: Rig) -> None:
    """Fill one pool step by step, and at each step measure there and in a pool of ten, in turns."""
    few, crowd = rig.ours, rig.crowd
    origins = {few: fill_to(rig, few, FEW), crowd: fill_to(rig, crowd, FEW)}
    for count in (FEW, 100) if rig.quick else _COUNTS:
        origins[crowd] = fill_to(rig, crowd, count)
        rig.report.tell(f"creation and snapshot with {count} volumes and snapshots")
        seconds: defaultdict[tuple[str, OurPool], list[float]] = defaultdict(list)
        for _ in range(rig.few(10, 1)):
            _round(origins, seconds)
        found = {key: Sample.of(each) for key, each in seconds.items()}
        for what in ("create", "snapshot"):
            rig.report.point(what, count, found[what, crowd].median)
            # What else the machine does meets both.
            rig.report.point(f"{what}, in a pool of {FEW}", count, found[what, few].median)
    few.clear()
    for what in ("create", "snapshot"):
        full, empty = found[what, crowd], found[what, few]
        note = f"{count} over {FEW}, of 64 mapped blocks each"
        rig.report.add(f"flat_{what}", full.median / empty.median, note, crowded=full, few=empty)
    _lvm(rig)


def fill_to(rig: Rig, pool: OurPool, count: int) -> Device:
    """Fill a pool with volumes and snapshots, up to ``count``; return the one that all of them are cut from."""
    served = pool.served
    devices = served.devices()
    origin = next((each for each in devices if each.origin is None and each.fs_type is None), None) or pool.origin()
    for number in range(len(devices) or 1, count):
        if number % 1000 == 0:
            rig.report.tell(f"filling a pool, {number} of {count}")
        if number % _SNAPSHOTS:
            served.copy(pool.name("crowd"), origin.handle, block=True)
        else:
            served.node.create_snapshot(pool.name("crowd"), origin.handle)
    return origin


def fill_to_volumes(rig: Rig, pool: OurPool, count: int) -> None:
    """Go on filling a pool until ``count`` of what it holds are volumes."""
    origin = fill_to(rig, pool, FEW)
    there = sum(device.kind is Kind.VOLUME for device in pool.served.devices())
    for number in range(there, count):
        if number % 1000 == 0:
            rig.report.tell(f"filling a pool, {number} of {count} volumes")
        pool.served.copy(pool.name("crowd"), origin.handle, block=True)


def _round(origins: dict[OurPool, Device], seconds: defaultdict[tuple[str, OurPool], list[float]]) -> None:
    made: dict[OurPool, list[Device]] = {pool: [] for pool in origins}
    for _ in range(20):
        for pool, origin in origins.items():
            took, volume = clocked(lambda pool=pool: pool.served.create(pool.name(), SIZE))  # type: ignore[misc]
            seconds["create", pool].append(took)
            took, snapshot = clocked(
                lambda pool=pool, origin=origin: pool.served.node.create_snapshot(pool.name("s"), origin.handle)  # type: ignore[misc]
            )
            seconds["snapshot", pool].append(took)
            made[pool] += [volume, snapshot]
    for pool, devices in made.items():
        pool.delete(devices)


def _lvm(rig: Rig) -> None:
    lvm = rig.lvm
    names: list[str] = []
    samples = []
    for count in (FEW,) if rig.quick else _LVM_COUNTS:
        while len(names) < count:
            if len(names) % 50 == 0:
                rig.report.tell(f"filling LVM's pool, {len(names)} of {count}")
            names.append(lvm.name())
            lvm.create_idle(names[-1], SIZE)
        took = []
        for _ in range(rig.few(10, 2)):
            name = lvm.name()
            took.append(lvm.create(name, SIZE))
            lvm.remove(name)
        samples.append(Sample.of(took))
        rig.report.point("lvcreate -V -T", count, samples[-1].median)
    lvm.remove(*names)
    rig.report.add(
        "flat_lvm", samples[-1].median / samples[0].median, f"{count} over {FEW}", many=samples[-1], few=samples[0]
    )
