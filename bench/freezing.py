"""How long a snapshot of a mounted volume holds the one who writes to it."""

from collections.abc import Callable
from typing import Final

from bench.our_pool import SIZE, OurPool
from bench.rig import Rig
from bench.sample import Sample, milliseconds
from bench.writer import Writer
from csi.fs import mount
from csi.model import Device

_MEMBERS: Final = 32
_TAIL: Final = 99
_EVERY: Final = 20
"""Snapshots after which they are deleted."""
_PAUSE: Final = 0.0002


def run(rig: Rig) -> None:
    """Cut the driver's snapshots and bare ones in turns, then groups."""
    ours, served = rig.ours, rig.ours.served
    members = rig.few(_MEMBERS, 4)
    volumes = [served.create(ours.name("frozen"), SIZE) for _ in range(members)]
    places = [served.staged(each) for each in volumes]
    with Writer(f"{places[0]}/file", durable=False, pause=_PAUSE) as writer:
        held, bare = _single(rig, writer, volumes[0], places[0])
        groups = _groups(rig, writer, volumes)
    for volume in volumes:
        served.unstage(volume)
    ours.clear()
    tails = [each.percentile(_TAIL) for each in (held, bare, groups)]
    note = f"{_TAIL}th: {milliseconds(tails[0])} over {milliseconds(tails[1])}"
    rig.report.add("freeze_vs_limit", tails[0] / tails[1], note, ours=held, bare=bare)
    note = f"{_TAIL}th: {milliseconds(tails[2])} over {members} times {milliseconds(tails[1])}"
    rig.report.add("group_freeze_32", tails[2] / (members * tails[1]), note, group=groups, bare=bare)


def _single(rig: Rig, writer: Writer, volume: Device, place: str) -> tuple[Sample, Sample]:
    ours = rig.ours
    count = rig.few(200, 10)
    held, bare = [], []
    for number in range(count):
        if number % _EVERY == 0:
            rig.report.tell(f"freezes, {number} of {count}")
            ours.delete([each for each in ours.served.devices() if each.name and each.name.startswith("held")])
        held.append(_held(writer, lambda: ours.served.node.create_snapshot(ours.name("held"), volume.handle)))
        with ours.pool.root.directory(place) as directory:
            # So does the driver before it freezes.
            mount.syncfs(directory)
        bare.append(_held(writer, lambda: _bare(ours, volume)))
        ours.messages.forget()
    return Sample.of(held), Sample.of(bare)


def _held(writer: Writer, cut: Callable[[], object]) -> float:
    writer.reset()
    cut()
    return writer.longest()


def _bare(ours: OurPool, volume: Device) -> None:
    """Suspend, cut, resume, and nothing else."""
    control, name = ours.pool.control, volume.handle.device
    control.suspend(name)
    try:
        ours.messages.send_snapshot(volume.handle.thin)
    finally:
        control.resume(name)


def _groups(rig: Rig, writer: Writer, volumes: list[Device]) -> Sample:
    ours, node = rig.ours, rig.ours.served.node
    handles = [each.handle for each in volumes]
    count = rig.few(30, 3)
    held = []
    for number in range(count):
        if number % 10 == 0:
            rig.report.tell(f"groups of {len(handles)}, {number} of {count}")
        name = ours.name("group")
        held.append(_held(writer, lambda name=name: node.create_group(name, handles)))  # type: ignore[misc]
        group = node.create_group(name, handles)
        node.delete_group(group.handle, [each.handle for each in group.members])
        ours.delete([])
    return Sample.of(held)
