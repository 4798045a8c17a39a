"""The controller's GroupController and Identity services."""

from collections.abc import Callable

import grpc
from google.protobuf.wrappers_pb2 import BoolValue

from csi.errors import StateError
from csi.model import GroupHandle, Handle
from csi.pb.csi.v1 import csi_pb2 as pb
from csi.pb.csi.v1.csi_pb2_grpc import GroupControllerServicer, GroupControllerStub, IdentityServicer
from csi.rpc import group, identity, validate
from csi.rpc.fleet import Fleet, LostError
from csi.rpc.forward import Forwarder
from csi.rpc.router import owner, require_own


class GroupRouter(GroupControllerServicer):
    """Serves ``csi.v1.GroupController`` for all nodes: a group is of one pool, and so of one node."""

    def __init__(self, fleet: Fleet, forwarder: Forwarder) -> None:
        self._fleet = fleet
        self._forwarder = forwarder

    def GroupControllerGetCapabilities(
        self, request: pb.GroupControllerGetCapabilitiesRequest, context: grpc.ServicerContext
    ) -> pb.GroupControllerGetCapabilitiesResponse:
        """Say what every node can do."""
        return pb.GroupControllerGetCapabilitiesResponse(capabilities=group.capabilities())

    def CreateVolumeGroupSnapshot(
        self, request: pb.CreateVolumeGroupSnapshotRequest, context: grpc.ServicerContext
    ) -> pb.CreateVolumeGroupSnapshotResponse:
        """Cut all volumes where they are. Raise StateError, which names those of another pool."""
        operation = "create group snapshot"
        name = validate.name(request.name)
        field = "source_volume_ids"
        if not request.source_volume_ids:
            raise validate.invalid(field, "is required")
        members = [validate.volume_id(text, field) for text in request.source_volume_ids]
        strangers = [member for member in members if member.pool != members[0].pool]
        if strangers:
            raise StateError(operation, name, self._apart(operation, members), way_out="group volumes of one pool")
        seat = owner(self._fleet, operation, members[0].pool, name)
        made = self._forwarder.ask(
            seat,
            context,
            lambda channel, limit: GroupControllerStub(channel).CreateVolumeGroupSnapshot(request, timeout=limit),
        )
        cuts = made.group_snapshot.snapshots
        groups = [made.group_snapshot.group_snapshot_id, *(each.group_snapshot_id for each in cuts)]
        ids = [text for each in cuts for text in (each.snapshot_id, each.source_volume_id)]
        require_own(operation, name, seat, [*map(GroupHandle.parse, groups), *map(Handle.parse, ids)])
        return made

    def _apart(self, operation: str, members: list[Handle]) -> str:
        """Say which volume is on which node."""
        places = []
        for member in members:
            seat = owner(self._fleet, operation, member.pool, str(member))
            places.append(f"{member} is in pool {seat.pool} of node {seat.node}")
        return "; ".join(places)

    def DeleteVolumeGroupSnapshot(
        self, request: pb.DeleteVolumeGroupSnapshotRequest, context: grpc.ServicerContext
    ) -> pb.DeleteVolumeGroupSnapshotResponse:
        """Delete a group; one that cannot be ours, or of a pool that was given up, is gone already."""
        handle = GroupHandle.parse(validate.required(request.group_snapshot_id, "group_snapshot_id"))
        if handle is None:
            return pb.DeleteVolumeGroupSnapshotResponse()
        try:
            seat = self._fleet.owner("delete group snapshot", handle.pool, str(handle))
        except LostError:
            return pb.DeleteVolumeGroupSnapshotResponse()
        return self._forwarder.ask(
            seat,
            context,
            lambda channel, limit: GroupControllerStub(channel).DeleteVolumeGroupSnapshot(request, timeout=limit),
        )

    def GetVolumeGroupSnapshot(
        self, request: pb.GetVolumeGroupSnapshotRequest, context: grpc.ServicerContext
    ) -> pb.GetVolumeGroupSnapshotResponse:
        """Return one group as it is now."""
        handle = validate.group_id(request.group_snapshot_id)
        seat = owner(self._fleet, "get group snapshot", handle.pool, str(handle))
        return self._forwarder.ask(
            seat,
            context,
            lambda channel, limit: GroupControllerStub(channel).GetVolumeGroupSnapshot(request, timeout=limit),
        )


class RouterIdentity(IdentityServicer):
    """Serves ``csi.v1.Identity``: the driver is one, whoever of it is asked."""

    def __init__(self, ready: Callable[[], bool]) -> None:
        self._ready = ready

    def GetPluginInfo(
        self, request: pb.GetPluginInfoRequest, context: grpc.ServicerContext
    ) -> pb.GetPluginInfoResponse:
        """Give name and version."""
        return identity.plugin_info()

    def GetPluginCapabilities(
        self, request: pb.GetPluginCapabilitiesRequest, context: grpc.ServicerContext
    ) -> pb.GetPluginCapabilitiesResponse:
        """Name the services, and growth of volumes in use."""
        return identity.plugin_capabilities()

    def Probe(self, request: pb.ProbeRequest, context: grpc.ServicerContext) -> pb.ProbeResponse:
        """Tell whether the nodes are known; until then the answer is "not yet", and no error."""
        return pb.ProbeResponse(ready=BoolValue(value=self._ready()))
