"""Making, cutting, activating, deleting: in the serving process and over gRPC, beside LVM and the limit."""

import time
from collections import defaultdict
from typing import Final

from bench.calls import create_snapshot, create_volume, empty
from bench.our_pool import SIZE, OurPool, fill
from bench.rig import Rig
from bench.sample import Sample, clocked, timed
from csi.model import Device
from csi.units import Bytes

_HALF: Final = Bytes(SIZE // 2)
_PAUSE: Final = 0.0005
_PATIENCE: Final = 60.0

_Seconds = defaultdict[str, list[float]]


def run(rig: Rig) -> None:
    """Measure all of it in rounds, so that whatever else the machine does meets everybody alike."""
    seconds: _Seconds = defaultdict(list)
    rounds = rig.few(10, 1)
    each = rig.few(20, 5)
    ours, lvm = rig.ours, rig.lvm
    origin = ours.origin()
    lvm_origin = lvm.name()
    lvm.create(lvm_origin, SIZE)
    fill(lvm.path(lvm_origin), Bytes(SIZE // 16))
    lvm.deactivate(lvm_origin)
    _engine(ours, origin, defaultdict(list), 3)
    _wire(rig, origin, defaultdict(list), 3)
    for number in range(rounds):
        rig.report.tell(f"operations, round {number + 1} of {rounds}")
        _engine(ours, origin, seconds, each)
        _wire(rig, origin, seconds, each)
        _lvm(rig, lvm_origin, seconds)
    lvm.remove(lvm_origin)
    ours.clear()
    _report(rig, {name: Sample.of(found) for name, found in seconds.items()})


def _engine(ours: OurPool, origin: Device, seconds: _Seconds, count: int) -> None:
    """Call the volumes layer, one operation of each kind after the other."""
    served = ours.served
    made: list[Device] = []
    for _ in range(count):
        took, volume = clocked(lambda: served.create(ours.name()))
        seconds["create"].append(took)
        took, snapshot = clocked(lambda: served.node.create_snapshot(ours.name("s"), origin.handle))
        seconds["snapshot"].append(took)
        took, clone = clocked(lambda: served.copy(ours.name("c"), origin.handle, block=True))
        seconds["clone"].append(took)
        took, active = clocked(lambda: _activated(ours))
        seconds["activate"].append(took)
        made += [volume, snapshot, clone, active]
    ours.delete(made)
    for _ in range(max(1, count // 5)):
        volume = served.create(ours.name(), block=True)
        ours.write(volume, _HALF)
        seconds["delete"].append(timed(lambda volume=volume: _gone(ours, volume)))  # type: ignore[misc]


def _activated(ours: OurPool) -> Device:
    volume = ours.served.create(ours.name())
    ours.pool.device(volume.handle.thin).activate(ours.pool.number, volume.size)
    return volume


def _gone(ours: OurPool, volume: Device) -> None:
    """Delete a volume and wait until its thin device, and with it its space, is the pool's again."""
    ours.served.node.delete_volume(volume.handle)
    deadline = time.monotonic() + _PATIENCE
    while ours.pool.catalog.device(volume.handle.thin) is not None:
        if time.monotonic() > deadline:
            message = f"{volume.handle} was not given back within {_PATIENCE:g} s"
            raise TimeoutError(message)
        time.sleep(_PAUSE)


def _wire(rig: Rig, origin: Device, seconds: _Seconds, count: int) -> None:
    """Call over gRPC, an empty call before each; commit and send messages with nothing around them."""
    ours = rig.ours
    nothing = empty(ours.empty_socket)
    orders = []
    for _ in range(count):
        orders += [nothing, create_volume(ours.socket, ours.name(), SIZE)]
        orders += [nothing, create_snapshot(ours.socket, ours.name("s"), str(origin.handle))]
    answers = rig.caller.calls(orders)
    seconds["empty"] += [each.seconds for each in answers[0::2]]
    seconds["CreateVolume"] += [each.seconds for each in answers[1::4]]
    seconds["CreateSnapshot"] += [each.seconds for each in answers[3::4]]
    for _ in range(count):
        seconds["commit"].append(ours.commits.one())
        seconds["create_thin"].append(ours.messages.create())
        seconds["create_snap"].append(ours.messages.snapshot(origin.handle.thin))
    ids = [each.value["volume"]["volume_id"] for each in answers[1::4]]
    ours.delete_ids(ids + [each.value["snapshot"]["snapshot_id"] for each in answers[3::4]])


def _lvm(rig: Rig, origin: str, seconds: _Seconds) -> None:
    lvm = rig.lvm
    for _ in range(2):
        volume, snapshot = lvm.name(), lvm.name()
        seconds["lvcreate -V"].append(lvm.create(volume, SIZE))
        seconds["lvcreate -s"].append(lvm.snapshot(snapshot, origin))
        fill(lvm.path(volume), _HALF)
        seconds["lvremove"].append(lvm.remove(volume))
        lvm.remove(snapshot)


def _report(rig: Rig, found: dict[str, Sample]) -> None:
    add = rig.report.add
    create, snapshot, remove = found["lvcreate -V"], found["lvcreate -s"], found["lvremove"]
    for name, ours, lvm in (
        ("engine_create_vs_lvm", "create", create),
        ("engine_snapshot_vs_lvm", "snapshot", snapshot),
        ("engine_clone_vs_lvm", "clone", snapshot),
        ("engine_activate_vs_lvm", "activate", create),
        ("engine_delete_vs_lvm", "delete", remove),
        ("create_vs_lvm", "CreateVolume", create),
        ("snapshot_vs_lvm", "CreateSnapshot", snapshot),
    ):
        add(name, lvm.median / found[ours].median, ours=found[ours], LVM=lvm)
    for name, ours, message in (
        ("create_vs_limit", "CreateVolume", found["create_thin"]),
        ("snapshot_vs_limit", "CreateSnapshot", found["create_snap"]),
    ):
        empty_call, commit = found["empty"], found["commit"]
        limit = empty_call.median + commit.median + message.median
        add(name, found[ours].median / limit, ours=found[ours], empty=empty_call, commit=commit, message=message)
