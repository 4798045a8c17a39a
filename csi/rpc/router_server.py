"""The server of a controller. A node loads none of this."""

from collections.abc import Callable

from csi.pb.csi.v1 import csi_pb2_grpc
from csi.rpc.fleet import Fleet
from csi.rpc.forward import Forwarder
from csi.rpc.interceptor import Observe, unobserved
from csi.rpc.router import Router
from csi.rpc.router_group import GroupRouter, RouterIdentity
from csi.rpc.server import SocketServer


def router_server(
    fleet: Fleet, forwarder: Forwarder, path: str, ready: Callable[[], bool], observe: Observe = unobserved
) -> SocketServer:
    """Return the server of a controller, not yet started, which routes to the nodes of ``fleet``."""
    server = SocketServer(path, observe=observe)
    csi_pb2_grpc.add_IdentityServicer_to_server(RouterIdentity(ready), server.grpc_server)
    csi_pb2_grpc.add_ControllerServicer_to_server(Router(fleet, forwarder), server.grpc_server)
    csi_pb2_grpc.add_GroupControllerServicer_to_server(GroupRouter(fleet, forwarder), server.grpc_server)
    return server
