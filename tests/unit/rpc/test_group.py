"""The GroupController service."""

from collections.abc import Callable
from typing import Any

import pytest

from csi.errors import StateError
from csi.pb.csi.v1 import csi_pb2 as pb
from tests.unit.rpc.conftest import Stubs
from tests.unit.rpc.fake import BLOCK, CREATED, GROUP, SNAPSHOT, VOLUME, FakeNode

Refused = Callable[..., Any]


def create(*sources: object) -> pb.CreateVolumeGroupSnapshotRequest:
    return pb.CreateVolumeGroupSnapshotRequest(name="g", source_volume_ids=[str(source) for source in sources])


def test_all_members_carry_the_group_and_its_time(stubs: Stubs, fake: FakeNode) -> None:
    group = stubs.group.CreateVolumeGroupSnapshot(create(VOLUME, BLOCK)).group_snapshot
    assert fake.calls == [("create_group", ("g", (VOLUME, BLOCK)))]
    assert group.group_snapshot_id == str(GROUP)
    assert group.ready_to_use
    assert group.creation_time.ToNanoseconds() == CREATED
    assert {member.group_snapshot_id for member in group.snapshots} == {str(GROUP)}
    assert [member.source_volume_id for member in group.snapshots] == [str(VOLUME), str(BLOCK)]


@pytest.mark.parametrize("sources", [(), (VOLUME, ""), (VOLUME, VOLUME)])
def test_a_list_that_is_no_set_of_volumes_is_refused(
    stubs: Stubs, fake: FakeNode, refused: Refused, sources: tuple[object, ...]
) -> None:
    assert refused(stubs.group.CreateVolumeGroupSnapshot, create(*sources)).code().name == "INVALID_ARGUMENT"
    assert not fake.calls


def test_volumes_that_cannot_be_cut_together_are_named(stubs: Stubs, fake: FakeNode, refused: Refused) -> None:
    fake.failure = StateError("create group", "g", f"{BLOCK} is in another pool")
    error = refused(stubs.group.CreateVolumeGroupSnapshot, create(VOLUME, BLOCK))
    assert error.code().name == "FAILED_PRECONDITION"
    assert str(BLOCK) in error.details()


def test_a_group_is_returned_with_its_members(stubs: Stubs, fake: FakeNode) -> None:
    request = pb.GetVolumeGroupSnapshotRequest(group_snapshot_id=str(GROUP), snapshot_ids=[str(SNAPSHOT)])
    assert stubs.group.GetVolumeGroupSnapshot(request).group_snapshot.group_snapshot_id == str(GROUP)
    assert fake.calls == [("group", (GROUP, (SNAPSHOT,)))]


@pytest.mark.parametrize("text", ["fake-vol-id", str(VOLUME), "abcdefghij-g0000000g"])
def test_a_group_that_cannot_be_ours_is_not_found_but_deleted(
    stubs: Stubs, fake: FakeNode, refused: Refused, text: str
) -> None:
    """Whatever its members: csi-sanity names none."""
    request = pb.GetVolumeGroupSnapshotRequest(group_snapshot_id=text)
    assert refused(stubs.group.GetVolumeGroupSnapshot, request).code().name == "NOT_FOUND"
    stubs.group.DeleteVolumeGroupSnapshot(pb.DeleteVolumeGroupSnapshotRequest(group_snapshot_id=text))
    assert not fake.calls


@pytest.mark.parametrize("members", [[], ["x"], [str(SNAPSHOT), str(SNAPSHOT)], [str(GROUP)]])
def test_members_that_cannot_be_the_groups_are_refused(
    stubs: Stubs, fake: FakeNode, refused: Refused, members: list[str]
) -> None:
    get = pb.GetVolumeGroupSnapshotRequest(group_snapshot_id=str(GROUP), snapshot_ids=members)
    delete = pb.DeleteVolumeGroupSnapshotRequest(group_snapshot_id=str(GROUP), snapshot_ids=members)
    assert refused(stubs.group.GetVolumeGroupSnapshot, get).code().name == "INVALID_ARGUMENT"
    assert refused(stubs.group.DeleteVolumeGroupSnapshot, delete).code().name == "INVALID_ARGUMENT"
    assert not fake.calls


def test_a_group_is_deleted_with_its_members(stubs: Stubs, fake: FakeNode) -> None:
    request = pb.DeleteVolumeGroupSnapshotRequest(group_snapshot_id=str(GROUP), snapshot_ids=[str(SNAPSHOT)])
    stubs.group.DeleteVolumeGroupSnapshot(request)
    assert fake.calls == [("delete_group", (GROUP, (SNAPSHOT,)))]
