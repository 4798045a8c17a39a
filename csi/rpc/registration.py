"""Registration with the kubelet: it watches a directory for sockets and asks what it finds there for its name.

The kubelet calls NodeGetInfo at once, so the driver's own socket is served before this one is made. A registration
that failed is tried again by the kubelet: it is said, and the driver goes on.
"""

import os
from typing import Final

import grpc
import structlog

from csi.model import DRIVER
from csi.pb.pluginregistration.v1 import registration_pb2 as pb
from csi.pb.pluginregistration.v1 import registration_pb2_grpc
from csi.rpc.endpoint import socket_path
from csi.rpc.server import SocketServer

# CSI's major version: what the kubelet compares with its own.
_VERSIONS: Final = ("1.0.0",)


class Registration(registration_pb2_grpc.RegistrationServicer):
    """Serves ``pluginregistration.Registration``; ``registered`` is what the kubelet said last, None before it did."""

    def __init__(self, endpoint: str) -> None:
        self._endpoint = endpoint
        self.registered: bool | None = None

    def GetInfo(self, request: pb.InfoRequest, context: grpc.ServicerContext) -> pb.PluginInfo:
        """Say who this is and where its services are."""
        return pb.PluginInfo(type="CSIPlugin", name=DRIVER, endpoint=self._endpoint, supported_versions=list(_VERSIONS))

    def NotifyRegistrationStatus(
        self, request: pb.RegistrationStatus, context: grpc.ServicerContext
    ) -> pb.RegistrationStatusResponse:
        """Take note of what became of it."""
        self.registered = request.plugin_registered
        log = structlog.get_logger()
        if request.plugin_registered:
            log.info("registered with the kubelet", endpoint=self._endpoint)
        else:
            log.error("the kubelet refused the registration and will try again", reason=request.error)
        return pb.RegistrationStatusResponse()


def registration_server(directory: str, endpoint: str) -> tuple[SocketServer, Registration]:
    """Return the server, not yet started, of the registration socket in the kubelet's ``plugins_registry``.

    ``endpoint`` is the path of the driver's own socket as the kubelet sees it on its host. Raise InvalidRequestError
    for a path that cannot be one.
    """
    service = Registration(socket_path(endpoint))
    server = SocketServer(socket_path(os.path.join(directory, f"{DRIVER}-reg.sock")), workers=2, calls=16)
    registration_pb2_grpc.add_RegistrationServicer_to_server(service, server.grpc_server)
    return server, service
