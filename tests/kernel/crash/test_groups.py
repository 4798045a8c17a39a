"""A group snapshot that a crash cut short never shows two points in time, and neither does its retry."""

import pytest

from csi.model import Device, Group
from csi.volumes.node import Node
from tests.kernel.crash.scene import Scene, counter, give_back, snapshots, writing

POINTS = [
    "group.after-intent",
    "group.after-reserve",
    "group.frozen",
    "group.half-cut",
    "group.after-messages",
    "group.after-thaw",
    "group.after-record",
    "group.after-outcome",
]


@pytest.mark.parametrize("point", POINTS)
def test_members_that_are_written_in_turn_show_one_point_in_time(scene: Scene, point: str) -> None:
    """A file system, two raw block volumes in use, and one at rest."""
    mounted, *blocks = sources = [scene.volume(), scene.volume(block=True), scene.volume(block=True)]
    at_rest = scene.volume(block=True)
    paths = [f"{scene.stage(mounted)}/counter", *(scene.stage(block) for block in blocks)]
    handles = [source.handle for source in (*sources, at_rest)]
    name = scene.name()
    with writing(*paths):
        scene.dies_at(point, Node.create_group, name, handles)
        group = scene.do(Node.create_group, name, handles)
        assert scene.do(Node.create_group, name, handles) == group
        after = counter(paths[0])
    scene.settled()
    # Of a half-made group no member is left: those that are there belong to the one that was answered.
    assert {snapshot.group for snapshot in scene.do(snapshots)} == {None, group.handle.group}
    counters = _counters(scene, group, [mounted, *blocks])
    assert counters == sorted(counters, reverse=True), "a later write without an earlier one"
    assert counters[0] - counters[-1] <= 1
    assert 0 < counters[0] <= after


@pytest.mark.parametrize("point", ["group-delete.after-intent", "reclaim.after-message"])
def test_a_group_whose_deletion_was_answered_goes_with_all_members(scene: Scene, point: str) -> None:
    sources = [scene.volume().handle, scene.volume(block=True).handle]
    group = scene.do(Node.create_group, scene.name(), sources)
    members = [member.handle for member in group.members]
    if point.startswith("group"):
        scene.dies_at(point, Node.delete_group, group.handle, members)
        scene.do(Node.delete_group, group.handle, members)
    else:
        scene.do(Node.delete_group, group.handle, members)
        scene.dies_at(point, give_back)
    sight = scene.settled()
    assert not {device.handle for device in sight.devices} & set(members)


def _counters(scene: Scene, group: Group, sources: list[Device]) -> list[int]:
    """Return what the group's members of ``sources`` hold."""
    members = {member.origin: member for member in group.members}
    found = []
    for source in sources:
        with scene.copied(members[source.handle.thin]) as copy:
            found.append(counter(copy if source.fs_type is None else f"{copy}/counter"))
    return found
