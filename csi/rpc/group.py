"""The GroupController service: several volumes of a pool, cut at one point in time."""

from typing import TYPE_CHECKING, Final

import grpc

from csi.model import GroupHandle
from csi.pb.csi.v1 import csi_pb2 as pb
from csi.pb.csi.v1.csi_pb2_grpc import GroupControllerServicer
from csi.rpc import messages, parameters, validate

if TYPE_CHECKING:
    from csi.volumes.node import Node

_Rpc = pb.GroupControllerServiceCapability.RPC

CAPABILITIES: Final = (_Rpc.CREATE_DELETE_GET_VOLUME_GROUP_SNAPSHOT,)


def capabilities() -> list[pb.GroupControllerServiceCapability]:
    """Return CAPABILITIES as the service says them."""
    return [pb.GroupControllerServiceCapability(rpc=_Rpc(type=kind)) for kind in CAPABILITIES]


class GroupController(GroupControllerServicer):
    """Serves ``csi.v1.GroupController``."""

    def __init__(self, node: "Node") -> None:
        self._node = node

    def GroupControllerGetCapabilities(
        self, request: pb.GroupControllerGetCapabilitiesRequest, context: grpc.ServicerContext
    ) -> pb.GroupControllerGetCapabilitiesResponse:
        """Say what this service can do."""
        return pb.GroupControllerGetCapabilitiesResponse(capabilities=capabilities())

    def CreateVolumeGroupSnapshot(
        self, request: pb.CreateVolumeGroupSnapshotRequest, context: grpc.ServicerContext
    ) -> pb.CreateVolumeGroupSnapshotResponse:
        """Cut all volumes, or return the group cut before by an equal request."""
        name = validate.name(request.name)
        texts = request.source_volume_ids
        field = "source_volume_ids"
        if not texts or not all(texts):
            raise validate.invalid(field, "is required, and no id in it may be empty")
        if len(set(texts)) < len(texts):
            raise validate.invalid(field, "a volume is named twice")
        parameters.refuse(request.parameters, "parameters")
        group = self._node.create_group(name, [validate.volume_id(text, field) for text in texts])
        return pb.CreateVolumeGroupSnapshotResponse(group_snapshot=messages.group_snapshot(group, self._node.name))

    def DeleteVolumeGroupSnapshot(
        self, request: pb.DeleteVolumeGroupSnapshotRequest, context: grpc.ServicerContext
    ) -> pb.DeleteVolumeGroupSnapshotResponse:
        """Delete a group with its members; one that cannot be ours is gone already, whatever its members."""
        handle = GroupHandle.parse(validate.required(request.group_snapshot_id, "group_snapshot_id"))
        if handle is not None:
            self._node.delete_group(handle, validate.members(request.snapshot_ids))
        return pb.DeleteVolumeGroupSnapshotResponse()

    def GetVolumeGroupSnapshot(
        self, request: pb.GetVolumeGroupSnapshotRequest, context: grpc.ServicerContext
    ) -> pb.GetVolumeGroupSnapshotResponse:
        """Return one group as it is now."""
        handle = validate.group_id(request.group_snapshot_id)
        group = self._node.group(handle, validate.members(request.snapshot_ids))
        return pb.GetVolumeGroupSnapshotResponse(group_snapshot=messages.group_snapshot(group, self._node.name))
