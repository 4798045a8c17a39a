"""Two nodes behind the controller's router, over TLS."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

import grpc
import pytest

from csi.model import TOPOLOGY_KEY, Device, Group, GroupHandle, Handle, PoolId, ThinId
from csi.pb.csi.v1 import csi_pb2 as pb
from csi.pb.csi.v1 import csi_pb2_grpc
from csi.rpc.fleet import Fleet
from csi.rpc.forward import Channels, Forwarder
from csi.rpc.interceptor import Requests
from csi.rpc.router import Router
from csi.rpc.router_group import GroupRouter, RouterIdentity
from csi.rpc.server import add_controller_services
from csi.rpc.trust import CONTROLLER, NODE, Own, node_credentials
from csi.units import GIB
from csi.volumes.requests import VolumeRequest
from tests.unit.rpc.fake import POOL, FakeNode

if TYPE_CHECKING:
    from csi.volumes.node import Node

A, B = PoolId("aaaaaaaaaa"), PoolId("bbbbbbbbbb")


class OneNode(FakeNode):
    """A node whose volumes are in a pool of its own, served over TLS."""

    def __init__(self, name: str, pool: PoolId, controllers: str, calls: int | None = None) -> None:
        super().__init__()
        self.name = name
        self.pool = pool
        self.held = {self.mine(each).handle: self.mine(each) for each in self.held.values()}
        self.own = Own(NODE)
        self.threads = ThreadPoolExecutor(8)
        self.server = grpc.server(self.threads, interceptors=[Requests(self.threads)], maximum_concurrent_rpcs=calls)
        add_controller_services(cast("Node", self), self.server)
        credentials = node_credentials(self.own, lambda: controllers)
        self.address = f"127.0.0.1:{self.server.add_secure_port('127.0.0.1:0', credentials)}"
        self.server.start()

    def mine(self, device: Device) -> Device:
        source = device.content_source.replace(POOL, self.pool)
        return replace(device, handle=Handle(self.pool, device.handle.thin), content_source=source)

    def handle(self, thin: int) -> str:
        return str(Handle(self.pool, ThinId(thin)))

    def pool_name(self, pool: PoolId) -> str:
        assert pool == self.pool
        return "fast"

    def create_volume(self, request: VolumeRequest) -> Device:
        return self.mine(super().create_volume(request))

    def create_snapshot(self, name: str, source: Handle) -> Device:
        return self.mine(super().create_snapshot(name, source))

    def create_group(self, name: str, sources: Sequence[Handle]) -> Group:
        made = super().create_group(name, sources)
        handle = GroupHandle(self.pool, made.handle.group)
        return replace(made, handle=handle, members=tuple(map(self.mine, made.members)))

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


def code(error: pytest.ExceptionInfo[grpc.RpcError]) -> grpc.StatusCode:
    return error.value.code()
