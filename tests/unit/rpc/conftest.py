"""A real gRPC server on a unix socket, with the project's interceptor and services, in front of a fake node."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import grpc
import pytest
import structlog
from structlog.testing import capture_logs
from structlog.typing import EventDict

from csi.pb.csi.v1 import csi_pb2_grpc
from csi.pb.thinpool.v1 import admin_pb2_grpc
from csi.rpc.interceptor import Requests
from csi.rpc.server import add_services
from tests.unit.rpc.cluster import Cluster
from tests.unit.rpc.fake import FakeNode

if TYPE_CHECKING:
    from csi.volumes.node import Node


@dataclass(frozen=True)
class Stubs:
    """The client side of every service, and the bare channel."""

    channel: grpc.Channel
    identity: csi_pb2_grpc.IdentityStub
    controller: csi_pb2_grpc.ControllerStub
    group: csi_pb2_grpc.GroupControllerStub
    node: csi_pb2_grpc.NodeStub
    admin: admin_pb2_grpc.AdminStub

    @classmethod
    def on(cls, channel: grpc.Channel) -> "Stubs":
        return cls(
            channel,
            csi_pb2_grpc.IdentityStub(channel),
            csi_pb2_grpc.ControllerStub(channel),
            csi_pb2_grpc.GroupControllerStub(channel),
            csi_pb2_grpc.NodeStub(channel),
            admin_pb2_grpc.AdminStub(channel),
        )


@pytest.fixture(scope="module")
def grpc_addr(tmp_path_factory: pytest.TempPathFactory) -> str:
    return f"unix:{tmp_path_factory.mktemp('rpc')}/csi.sock"


@pytest.fixture(scope="module")
def grpc_interceptors() -> Iterator[list[grpc.ServerInterceptor]]:
    with ThreadPoolExecutor(1) as quick:
        yield [Requests(quick)]


@pytest.fixture(scope="module")
def grpc_servicer() -> FakeNode:
    return FakeNode()


@pytest.fixture(scope="module")
def grpc_add_to_server() -> Callable[[FakeNode, grpc.Server], None]:
    return lambda fake, server: add_services(cast("Node", fake), server)


@pytest.fixture(scope="module")
def grpc_stub_cls() -> Callable[[grpc.Channel], Stubs]:
    return Stubs.on


@pytest.fixture
def stubs(grpc_stub: Stubs) -> Stubs:
    return grpc_stub


@pytest.fixture(autouse=True)
def fake(grpc_servicer: FakeNode) -> FakeNode:
    grpc_servicer.reset()
    return grpc_servicer


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    made = Cluster(f"{tmp_path}/csi.sock")
    yield made
    made.close()


@pytest.fixture
def lines() -> Iterator[list[EventDict]]:
    """Collect the log lines of every level."""
    structlog.reset_defaults()
    with capture_logs() as captured:
        yield captured
    structlog.reset_defaults()


@pytest.fixture
def refused() -> Callable[..., grpc.RpcError]:
    """Make a call that must fail, and return its error."""

    def call(method: Callable[[Any], object], request: object) -> grpc.RpcError:
        with pytest.raises(grpc.RpcError) as caught:
            method(request)
        return caught.value

    return call
