"""The controller's router in front of two nodes, over TLS: who is asked, and what comes of one that does not answer."""

from dataclasses import replace
from types import SimpleNamespace
from typing import TYPE_CHECKING

import grpc
import pytest

from csi.errors import DriverError, NoSpaceError, UnavailableError
from csi.model import TOPOLOGY_KEY, Device, Handle, PoolId, ThinId
from csi.pb.csi.v1 import csi_pb2 as pb
from csi.rpc.fleet import Fleet
from csi.rpc.inventory import Inventory
from csi.rpc.trust import NODE, Own
from csi.units import GIB
from csi.volumes.requests import VolumeRequest
from tests.unit.rpc.cluster import A, B, Cluster, OneNode, code
from tests.unit.rpc.fake import FakeNode

if TYPE_CHECKING:
    from collections.abc import Callable


def test_a_volume_is_made_where_it_is_wanted(cluster: Cluster) -> None:
    volume = cluster.create("b")
    assert volume.volume_id.startswith(B)
    assert volume.accessible_topology[0].segments[TOPOLOGY_KEY] == "b"
    assert not cluster.a.asked()
    assert cluster.create("a", "b").volume_id.startswith(A)


def test_with_no_wish_each_name_has_its_place_and_keeps_it(cluster: Cluster) -> None:
    places = {name: cluster.create(name=name).volume_id[:10] for name in map(str, range(20))}
    assert set(places.values()) == {A, B}
    assert all(cluster.create(name=name).volume_id[:10] == place for name, place in places.items())


def test_a_node_that_cannot_take_it_is_passed_over(cluster: Cluster) -> None:
    cluster.a.failure = NoSpaceError("create volume", "v", "full")
    for name in map(str, range(5)):
        assert cluster.create("a", "b", name=name, chosen=False).volume_id.startswith(B)
    with pytest.raises(grpc.RpcError, match="full") as error:
        cluster.create("a", chosen=False)
    assert code(error) is grpc.StatusCode.RESOURCE_EXHAUSTED
    cluster.objects[0]["status"]["capacity"]["available"] = 0
    cluster.a.reset()
    assert cluster.create().volume_id.startswith(B)
    assert not cluster.a.asked()


def test_a_node_that_was_chosen_and_cannot_take_it_lets_the_scheduler_choose_another(cluster: Cluster) -> None:
    """Its pod may be unable to run on the node that is asked instead."""
    cluster.a.failure = NoSpaceError("create volume", "v", "full")
    with pytest.raises(grpc.RpcError, match="full") as error:
        cluster.create("a", "b")
    assert code(error) is grpc.StatusCode.RESOURCE_EXHAUSTED
    with pytest.raises(grpc.RpcError, match="node c has no pool for it") as error:
        cluster.create("c", "a", "b")
    assert code(error) is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert not cluster.b.asked()


def test_a_node_out_of_reach_before_it_was_asked_lets_the_scheduler_choose_another(cluster: Cluster) -> None:
    cluster.a.stop()
    with pytest.raises(grpc.RpcError, match="node a") as error:
        cluster.create("a")
    assert code(error) is grpc.StatusCode.RESOURCE_EXHAUSTED


def test_a_node_that_goes_while_it_is_at_it_may_have_done_it(cluster: Cluster) -> None:
    cluster.a.during = lambda: cluster.a.server.stop(None)
    with pytest.raises(grpc.RpcError) as error:
        cluster.create("a", "b")
    assert code(error) in {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED}
    assert not cluster.b.asked()


def test_a_volume_that_may_have_been_made_is_made_nowhere_else(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its node was lost while it was at it and comes back: RESOURCE_EXHAUSTED would have the scheduler go elsewhere."""

    def lost(_node: FakeNode, _request: VolumeRequest) -> Device:
        raise UnavailableError("create volume", "v", "the node is about to end")

    with monkeypatch.context() as patched:
        patched.setattr(OneNode, "create_volume", lost)
        with pytest.raises(grpc.RpcError) as error:
            cluster.create("a", "b", chosen=False, name="x")
        assert code(error) is grpc.StatusCode.UNAVAILABLE
    for each in (cluster.a, cluster.b):
        each.stop()
    with pytest.raises(grpc.RpcError) as error:
        cluster.create("a", "b", chosen=False, name="x")
    assert code(error) is grpc.StatusCode.UNAVAILABLE


def test_a_node_that_may_have_made_it_is_asked_again_though_it_is_full_by_now(cluster: Cluster) -> None:
    """It may be full of this very volume."""
    for name in map(str, range(5)):
        at = _left_unclear(cluster, name)
        cluster.objects[at]["status"]["capacity"]["available"] = 0
        assert cluster.create("a", "b", chosen=False, name=name).volume_id.startswith((A, B)[at])
        cluster.objects[at]["status"]["capacity"]["available"] = 50 * GIB


def test_a_node_that_stays_away_holds_up_a_volume_that_it_may_have_made_for_ten_minutes(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = SimpleNamespace(now=0.0)
    monkeypatch.setattr("csi.rpc.unclear.time", SimpleNamespace(monotonic=lambda: clock.now))
    monkeypatch.setattr("csi.rpc.forward.CONNECT", 0.5)
    at = _left_unclear(cluster, "v")
    node = (cluster.a, cluster.b)[at]
    node.stop()
    for clock.now in (200.0, 599.0):
        with pytest.raises(grpc.RpcError, match=f"node {node.name}: it does not answer") as error:
            cluster.create("a", "b", chosen=False)
        assert code(error) is grpc.StatusCode.UNAVAILABLE
    clock.now = 601.0
    assert cluster.create("a", "b", chosen=False).volume_id.startswith((B, A)[at])


def _left_unclear(cluster: Cluster, name: str) -> int:
    """Have a node lost while it makes the volume; return which."""
    nodes = (cluster.a, cluster.b)
    for node in nodes:
        node.calls.clear()
        node.failure = UnavailableError("create volume", name, "the node is about to end")
    with pytest.raises(grpc.RpcError, match="about to end"):
        cluster.create("a", "b", chosen=False, name=name)
    for node in nodes:
        node.failure = None
    (at,) = (at for at, node in enumerate(nodes) if node.asked())
    return at


def test_a_copy_is_made_where_its_source_is(cluster: Cluster) -> None:
    assert cluster.create(source=cluster.b.handle(3)).volume_id.startswith(B)
    # Also when the scheduler has chosen another node: it follows the volume.
    assert cluster.create("b", "a", source=cluster.a.handle(3)).volume_id.startswith(A)
    with pytest.raises(grpc.RpcError, match=r"its source .* is on node b") as error:
        cluster.create("a", source=cluster.b.handle(3))
    assert code(error) is grpc.StatusCode.RESOURCE_EXHAUSTED


def test_what_a_handle_names_goes_to_its_node_and_comes_back_as_it_is(cluster: Cluster) -> None:
    cluster.stub.ControllerExpandVolume(
        pb.ControllerExpandVolumeRequest(
            volume_id=cluster.b.handle(1), capacity_range=pb.CapacityRange(required_bytes=2 * GIB)
        )
    )
    cut = cluster.stub.CreateSnapshot(pb.CreateSnapshotRequest(name="s", source_volume_id=cluster.b.handle(1))).snapshot
    cluster.stub.DeleteSnapshot(pb.DeleteSnapshotRequest(snapshot_id=cut.snapshot_id))
    cluster.stub.DeleteVolume(pb.DeleteVolumeRequest(volume_id=cluster.b.handle(1)))
    assert cluster.b.asked() == ["expand_volume", "create_snapshot", "delete_snapshot", "delete_volume"]
    assert not cluster.a.asked()
    cluster.b.failure = NoSpaceError("create snapshot", "s", "full")
    with pytest.raises(grpc.RpcError, match="node b: create snapshot s: full") as error:
        cluster.stub.CreateSnapshot(pb.CreateSnapshotRequest(name="s", source_volume_id=cluster.b.handle(1)))
    assert code(error) is grpc.StatusCode.RESOURCE_EXHAUSTED


def test_what_a_node_answers_and_is_anothers_is_passed_on_to_nobody(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A node that was taken over would have a claim read and delete what is another's."""
    own = replace(cluster.a.held[Handle(A, ThinId(1))], name="v")
    foreign = replace(own, handle=Handle(B, ThinId(1)))
    none = replace(own, handle=Handle(A, ThinId(0)))
    monkeypatch.setattr(cluster.a, "pool_name", lambda _pool: "fast")
    for answer in (foreign, none):
        monkeypatch.setattr(cluster.a, "create_volume", lambda _request, answer=answer: answer)
        with pytest.raises(grpc.RpcError, match="create volume v: node a answers with what is not its own") as error:
            cluster.create("a", "b")
        assert code(error) is grpc.StatusCode.UNAVAILABLE
    monkeypatch.setattr(cluster.a, "create_volume", lambda _request: own)
    assert cluster.create("a", "b").volume_id == str(own.handle)
    with monkeypatch.context() as patched:
        patched.setattr(cluster.a, "name", "b")
        with pytest.raises(grpc.RpcError, match="node a answers with what is not its own"):
            cluster.create("a", "b", name="w")
    cut = cluster.a.create_snapshot("s", own.handle)
    request = pb.CreateSnapshotRequest(name="s", source_volume_id=str(own.handle))
    for answer in (replace(cut, handle=foreign.handle), replace(cut, content_source=str(foreign.handle))):
        monkeypatch.setattr(cluster.a, "create_snapshot", lambda *_, answer=answer: answer)
        with pytest.raises(grpc.RpcError, match="create snapshot s: node a answers with what is not its own") as error:
            cluster.stub.CreateSnapshot(request)
        assert code(error) is grpc.StatusCode.UNAVAILABLE
    assert not cluster.b.asked()


def test_an_unknown_pool_may_be_seen_later_and_a_malformed_id_never(cluster: Cluster) -> None:
    unknown = str(Handle(PoolId("cccccccccc"), ThinId(1)))
    calls: tuple[Callable[[], object], ...] = (
        lambda: cluster.stub.DeleteVolume(pb.DeleteVolumeRequest(volume_id=unknown)),
        lambda: cluster.stub.ControllerGetVolume(pb.ControllerGetVolumeRequest(volume_id=unknown)),
        lambda: cluster.stub.ListSnapshots(pb.ListSnapshotsRequest(snapshot_id=unknown)),
    )
    for call in calls:
        with pytest.raises(grpc.RpcError, match="no node is known") as error:
            call()
        assert code(error) is grpc.StatusCode.UNAVAILABLE
    cluster.stub.DeleteVolume(pb.DeleteVolumeRequest(volume_id="../etc"))
    cluster.stub.DeleteSnapshot(pb.DeleteSnapshotRequest(snapshot_id="x"))
    assert not cluster.stub.ListSnapshots(pb.ListSnapshotsRequest(snapshot_id="x")).entries
    with pytest.raises(grpc.RpcError) as error:
        cluster.stub.ControllerGetVolume(pb.ControllerGetVolumeRequest(volume_id="../etc"))
    assert code(error) is grpc.StatusCode.NOT_FOUND


def test_what_was_in_a_lost_pool_is_gone_and_new_volumes_go_elsewhere(cluster: Cluster) -> None:
    cluster.a.stop()
    cluster.objects[0]["spec"]["lost"] = True
    cluster.stub.DeleteVolume(pb.DeleteVolumeRequest(volume_id=cluster.a.handle(1)))
    cluster.stub.DeleteSnapshot(pb.DeleteSnapshotRequest(snapshot_id=cluster.a.handle(3)))
    with pytest.raises(grpc.RpcError, match="declared lost") as error:
        cluster.stub.ControllerGetVolume(pb.ControllerGetVolumeRequest(volume_id=cluster.a.handle(1)))
    assert code(error) is grpc.StatusCode.NOT_FOUND
    assert cluster.create("a", "b", chosen=False).volume_id.startswith(B)
    assert len(cluster.stub.ListVolumes(pb.ListVolumesRequest()).entries) == 2


def test_two_nodes_that_claim_one_pool_get_nothing(cluster: Cluster) -> None:
    cluster.objects[1]["status"]["poolID"] = A
    with pytest.raises(grpc.RpcError, match="a and b both claim pool aaaaaaaaaa") as error:
        cluster.stub.DeleteVolume(pb.DeleteVolumeRequest(volume_id=cluster.a.handle(1)))
    assert code(error) is grpc.StatusCode.UNAVAILABLE
    for chosen in (True, False):
        # Not RESOURCE_EXHAUSTED: it is not for want of room.
        with pytest.raises(grpc.RpcError, match="create volume v: a and b both claim pool aaaaaaaaaa") as error:
            cluster.create("a", "b", chosen=chosen)
        assert code(error) is grpc.StatusCode.UNAVAILABLE
    for node in ("a", "b"):
        topology = pb.Topology(segments={TOPOLOGY_KEY: node})
        assert not cluster.stub.GetCapacity(pb.GetCapacityRequest(accessible_topology=topology)).available_capacity
    assert not cluster.stub.GetCapacity(pb.GetCapacityRequest()).available_capacity
    assert not cluster.a.asked()
    assert not cluster.b.asked()


def test_what_two_nodes_claim_is_passed_over_unless_a_volume_may_have_been_made_there(cluster: Cluster) -> None:
    unclear = next(name for name in map(str, range(100)) if _left_unclear(cluster, name) == 0)
    claiming = cluster.a.thin_pool_node()
    claiming["metadata"]["name"], claiming["spec"]["nodeName"] = "fast.c", "c"
    cluster.objects.append(claiming)
    cluster.a.calls.clear()
    for name in map(str, range(100, 110)):
        assert cluster.create(name=name).volume_id.startswith(B)
    assert cluster.stub.GetCapacity(pb.GetCapacityRequest()).available_capacity == 50 * GIB
    with pytest.raises(grpc.RpcError, match="a and c both claim pool aaaaaaaaaa") as error:
        cluster.create(name=unclear)
    assert code(error) is grpc.StatusCode.UNAVAILABLE
    assert not cluster.a.asked()


def test_a_pool_that_one_node_gave_up_and_another_has_now_is_served_there(cluster: Cluster) -> None:
    given_up = cluster.b.thin_pool_node(poolID=A)
    given_up["spec"]["lost"] = True
    cluster.objects[1] = given_up
    handle = cluster.a.handle(1)
    assert cluster.stub.ControllerGetVolume(pb.ControllerGetVolumeRequest(volume_id=handle)).volume.volume_id == handle


def test_an_inventory_is_all_of_one_node_in_however_many_pages(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("csi.rpc.pages.LONGEST", 1)
    inventory = Inventory(Fleet(lambda: cluster.objects), cluster.forwarder)
    held = inventory.of("a")
    assert [(each.handle, each.kind) for each in held] == [
        *((str(each.handle), "Volume") for each in cluster.a.volumes()),
        *((str(each.handle), "Snapshot") for each in cluster.a.snapshots()),
    ]
    assert len(cluster.a.volumes()) > 1
    cluster.a.stop()
    with pytest.raises(DriverError):
        inventory.of("a")
    with pytest.raises(DriverError):
        inventory.of("nobody")


def test_lists_are_those_of_all_nodes_in_pages(cluster: Cluster) -> None:
    whole = [entry.volume.volume_id for entry in cluster.stub.ListVolumes(pb.ListVolumesRequest()).entries]
    assert whole == [cluster.a.handle(1), cluster.a.handle(2), cluster.b.handle(1), cluster.b.handle(2)]
    listed, token = [], ""
    while True:
        page = cluster.stub.ListVolumes(pb.ListVolumesRequest(max_entries=1, starting_token=token))
        listed += [entry.volume.volume_id for entry in page.entries]
        token = page.next_token
        if not token:
            break
    assert listed == whole
    snapshots = cluster.stub.ListSnapshots(pb.ListSnapshotsRequest())
    assert [entry.snapshot.snapshot_id for entry in snapshots.entries] == [cluster.a.handle(3), cluster.b.handle(3)]


def test_a_list_without_a_node_is_none(cluster: Cluster) -> None:
    cluster.b.stop()
    with pytest.raises(grpc.RpcError, match="node b") as error:
        cluster.stub.ListVolumes(pb.ListVolumesRequest())
    assert code(error) is grpc.StatusCode.UNAVAILABLE


def test_capacity_is_that_of_a_node_or_of_all_and_none_out_of_reach(cluster: Cluster) -> None:
    def capacity(node: str = "") -> tuple[int, int]:
        topology = pb.Topology(segments={TOPOLOGY_KEY: node}) if node else None
        answer = cluster.stub.GetCapacity(
            pb.GetCapacityRequest(accessible_topology=topology, parameters={"pool": "fast"})
        )
        return answer.available_capacity // GIB, answer.maximum_volume_size.value // GIB

    assert capacity("a") == (50, 20)
    assert capacity() == (100, 20)
    assert capacity("c") == (0, 0)
    cluster.a.stop()
    assert capacity("a") == (0, 0)
    assert capacity() == (50, 20)


def test_a_nodes_new_certificate_is_taken_up(cluster: Cluster) -> None:
    assert cluster.create("a").volume_id
    cluster.a.own._certificates = Own(NODE)._certificates
    cluster.objects[0] = cluster.a.thin_pool_node()
    assert cluster.create("a", name="w").volume_id
    # An address of which another certificate is published is somebody else.
    cluster.objects[0]["status"]["certificate"] = Own(NODE).published()
    with pytest.raises(grpc.RpcError) as error:
        cluster.create("a", name="x")
    assert code(error) is grpc.StatusCode.RESOURCE_EXHAUSTED
