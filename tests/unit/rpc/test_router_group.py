"""Group snapshots through the controller's router."""

from dataclasses import replace

import grpc
import pytest

from csi.model import Group, GroupHandle
from csi.pb.csi.v1 import csi_pb2 as pb
from tests.unit.rpc.cluster import A, B, Cluster, code
from tests.unit.rpc.fake import GROUP


def test_a_group_goes_to_its_node_and_one_across_nodes_is_refused_by_name(cluster: Cluster) -> None:
    made = cluster.groups.CreateVolumeGroupSnapshot(
        pb.CreateVolumeGroupSnapshotRequest(name="g", source_volume_ids=[cluster.a.handle(1), cluster.a.handle(2)])
    )
    assert len(made.group_snapshot.snapshots) == 2
    assert cluster.a.asked() == ["create_group"]
    with pytest.raises(grpc.RpcError) as error:
        cluster.groups.CreateVolumeGroupSnapshot(
            pb.CreateVolumeGroupSnapshotRequest(name="h", source_volume_ids=[cluster.a.handle(1), cluster.b.handle(2)])
        )
    assert code(error) is grpc.StatusCode.FAILED_PRECONDITION
    assert f"{cluster.b.handle(2)} is in pool fast of node b" in str(error.value.details())


def test_a_group_that_a_node_answers_and_that_is_anothers_is_passed_on_to_nobody(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = next(iter(cluster.a.held))
    own = cluster.a.create_group("g", [source])
    (member,) = own.members
    foreign = replace(member, handle=replace(member.handle, pool=B))
    away = replace(member, content_source=cluster.b.handle(1))
    answers: tuple[Group, ...] = (
        replace(own, handle=GroupHandle(B, GROUP.group)),
        replace(own, members=(member, foreign)),
        replace(own, members=(away,)),
    )
    request = pb.CreateVolumeGroupSnapshotRequest(name="g", source_volume_ids=[str(source)])
    for answer in answers:
        monkeypatch.setattr(cluster.a, "create_group", lambda *_, answer=answer: answer)
        with pytest.raises(grpc.RpcError, match="group snapshot g: node a answers with what is not its own") as error:
            cluster.groups.CreateVolumeGroupSnapshot(request)
        assert code(error) is grpc.StatusCode.UNAVAILABLE
    monkeypatch.setattr(cluster.a, "create_group", lambda *_: own)
    assert cluster.groups.CreateVolumeGroupSnapshot(request).group_snapshot.group_snapshot_id.startswith(A)
