"""The controller's router in front of two nodes, over TLS: who is asked, and what comes of one that does not answer."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import grpc
import pytest

from csi.errors import DriverError, NoSpaceError, UnavailableError
from csi.model import TOPOLOGY_KEY, Device, Handle, PoolId, ThinId
from csi.pb.csi.v1 import csi_pb2 as pb
from csi.pb.csi.v1 import csi_pb2_grpc
from csi.rpc.fleet import Fleet
from csi.rpc.forward import Channels, Forwarder
from csi.rpc.interceptor import Requests
from csi.rpc.inventory import Inventory
from csi.rpc.router import Router
from csi.rpc.router_group import GroupRouter, RouterIdentity
from csi.rpc.server import add_controller_services
from csi.rpc.trust import CONTROLLER, NODE, Own, node_credentials
from csi.units import GIB
from csi.volumes.requests import VolumeRequest
from tests.unit.rpc.fake import FakeNode

if TYPE_CHECKING:
    from csi.volumes.node import Node

A, B = PoolId("aaaaaaaaaa"), PoolId("bbbbbbbbbb")


class OneNode(FakeNode):
    """A node whose volumes are in a pool of its own, served over TLS."""

    def __init__(self, name: str, pool: PoolId, controllers: str) -> None:
        super().__init__()
        self.name = name
        self.pool = pool
        self.held = {self.mine(each).handle: self.mine(each) for each in self.held.values()}
        self.own = Own(NODE)
        self.threads = ThreadPoolExecutor(8)
        self.server = grpc.server(self.threads, interceptors=[Requests(self.threads)])
        add_controller_services(cast("Node", self), self.server)
        credentials = node_credentials(self.own, lambda: controllers)
        self.address = f"127.0.0.1:{self.server.add_secure_port('127.0.0.1:0', credentials)}"
        self.server.start()

    def mine(self, device: Device) -> Device:
        return replace(device, handle=Handle(self.pool, device.handle.thin))

    def handle(self, thin: int) -> str:
        return str(Handle(self.pool, ThinId(thin)))

    def pool_name(self, pool: PoolId) -> str:
        assert pool == self.pool
        return "fast"

    def create_volume(self, request: VolumeRequest) -> Device:
        return self.mine(super().create_volume(request))

    def asked(self) -> list[str]:
        return [name for name, _ in self.calls if name not in {"volume", "snapshot"}]

    def stop(self) -> None:
        self.server.stop(None).wait(10)
        self.threads.shutdown()

    def thin_pool_node(self, **status: object) -> dict[str, Any]:
        return {
            "metadata": {"name": f"fast.{self.name}"},
            "spec": {"poolName": "fast", "nodeName": self.name},
            "status": {
                "poolID": self.pool,
                "address": self.address,
                "certificate": self.own.published(),
                "capacity": {"available": 50 * GIB},
                **status,
            },
        }


class Cluster:
    """Two nodes, what the API says of them, and a client of the router."""

    def __init__(self, socket: str) -> None:
        own = Own(CONTROLLER)
        self.a, self.b = OneNode("a", A, own.published()), OneNode("b", B, own.published())
        self.objects = [self.a.thin_pool_node(), self.b.thin_pool_node()]
        self.forwarder = Forwarder(Channels(own))
        fleet = Fleet(lambda: self.objects)
        self.threads = ThreadPoolExecutor(8)
        self.server = grpc.server(self.threads, interceptors=[Requests(self.threads)])
        csi_pb2_grpc.add_ControllerServicer_to_server(Router(fleet, self.forwarder), self.server)
        csi_pb2_grpc.add_GroupControllerServicer_to_server(GroupRouter(fleet, self.forwarder), self.server)
        csi_pb2_grpc.add_IdentityServicer_to_server(RouterIdentity(lambda: True), self.server)
        self.server.add_insecure_port(f"unix:{socket}")
        self.server.start()
        self.channel = grpc.insecure_channel(f"unix:{socket}")
        self.stub = csi_pb2_grpc.ControllerStub(self.channel)
        self.groups = csi_pb2_grpc.GroupControllerStub(self.channel)

    def close(self) -> None:
        self.channel.close()
        self.server.stop(None).wait(10)
        self.forwarder.close()
        self.a.stop()
        self.b.stop()

    def create(self, *nodes: str, name: str = "v", size: int = GIB, source: str = "", chosen: bool = True) -> pb.Volume:
        """Create a volume; ``nodes`` are those that will do, the first is the one that was ``chosen``."""
        topologies = [pb.Topology(segments={TOPOLOGY_KEY: node}) for node in nodes]
        content = pb.VolumeContentSource.SnapshotSource(snapshot_id=source)
        request = pb.CreateVolumeRequest(
            name=name,
            capacity_range=pb.CapacityRange(required_bytes=size),
            volume_capabilities=[
                pb.VolumeCapability(
                    mount=pb.VolumeCapability.MountVolume(),
                    access_mode=pb.VolumeCapability.AccessMode(mode=pb.VolumeCapability.AccessMode.SINGLE_NODE_WRITER),
                )
            ],
            parameters={"pool": "fast"},
            accessibility_requirements=pb.TopologyRequirement(
                requisite=topologies, preferred=topologies if chosen else []
            )
            if nodes
            else None,
            volume_content_source=pb.VolumeContentSource(snapshot=content) if source else None,
        )
        return self.stub.CreateVolume(request, timeout=20).volume


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    made = Cluster(f"{tmp_path}/csi.sock")
    yield made
    made.close()


def code(error: pytest.ExceptionInfo[grpc.RpcError]) -> grpc.StatusCode:
    return error.value.code()


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
    cluster.stub.DeleteSnapshot(pb.DeleteSnapshotRequest(snapshot_id=cut.snapshot_id.replace("abcdefghij", B)))
    cluster.stub.DeleteVolume(pb.DeleteVolumeRequest(volume_id=cluster.b.handle(1)))
    assert cluster.b.asked() == ["expand_volume", "create_snapshot", "delete_snapshot", "delete_volume"]
    assert not cluster.a.asked()
    cluster.b.failure = NoSpaceError("create snapshot", "s", "full")
    with pytest.raises(grpc.RpcError, match="node b: create snapshot s: full") as error:
        cluster.stub.CreateSnapshot(pb.CreateSnapshotRequest(name="s", source_volume_id=cluster.b.handle(1)))
    assert code(error) is grpc.StatusCode.RESOURCE_EXHAUSTED


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
    assert not cluster.a.asked()
    assert not cluster.b.asked()


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
