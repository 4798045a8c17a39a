"""The Identity service: who the plugin is, what it can do, and whether it is ready."""

from typing import TYPE_CHECKING, Final

import grpc
from google.protobuf.wrappers_pb2 import BoolValue

from csi import __version__
from csi.model import DRIVER
from csi.pb.csi.v1 import csi_pb2 as pb
from csi.pb.csi.v1.csi_pb2_grpc import IdentityServicer

if TYPE_CHECKING:
    from csi.volumes.node import Node

_Service = pb.PluginCapability.Service
_Expansion = pb.PluginCapability.VolumeExpansion

SERVICES: Final = (
    _Service.CONTROLLER_SERVICE,
    _Service.VOLUME_ACCESSIBILITY_CONSTRAINTS,
    _Service.GROUP_CONTROLLER_SERVICE,
    _Service.SNAPSHOT_ACCESSIBILITY_CONSTRAINTS,
)


def plugin_info() -> pb.GetPluginInfoResponse:
    """Return name and version of the driver."""
    return pb.GetPluginInfoResponse(name=DRIVER, vendor_version=__version__)


def plugin_capabilities() -> pb.GetPluginCapabilitiesResponse:
    """Return the services of the driver, and growth of volumes in use."""
    services = [pb.PluginCapability(service=_Service(type=kind)) for kind in SERVICES]
    online = pb.PluginCapability(volume_expansion=_Expansion(type=_Expansion.ONLINE))
    return pb.GetPluginCapabilitiesResponse(capabilities=[*services, online])


class Identity(IdentityServicer):
    """Serves ``csi.v1.Identity``."""

    def __init__(self, node: "Node") -> None:
        self._node = node

    def GetPluginInfo(
        self, request: pb.GetPluginInfoRequest, context: grpc.ServicerContext
    ) -> pb.GetPluginInfoResponse:
        """Give name and version."""
        return plugin_info()

    def GetPluginCapabilities(
        self, request: pb.GetPluginCapabilitiesRequest, context: grpc.ServicerContext
    ) -> pb.GetPluginCapabilitiesResponse:
        """Name the services, and growth of volumes in use."""
        return plugin_capabilities()

    def Probe(self, request: pb.ProbeRequest, context: grpc.ServicerContext) -> pb.ProbeResponse:
        """Tell whether the pools are open; while they are being opened, the answer is "not yet", and no error."""
        return pb.ProbeResponse(ready=BoolValue(value=self._node.ready()))
