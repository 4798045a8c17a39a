"""The Controller service, for the volumes and snapshots of one node."""

from typing import TYPE_CHECKING, Final

import grpc
import structlog
from google.protobuf.wrappers_pb2 import Int64Value

from csi.errors import InvalidRequestError, NotFoundError, UnavailableError
from csi.model import Device, FsType, Handle
from csi.pb.csi.v1 import csi_pb2 as pb
from csi.pb.csi.v1.csi_pb2_grpc import ControllerServicer
from csi.rpc import capability, messages, parameters, topology, validate
from csi.rpc.pages import Page
from csi.units import Bytes
from csi.volumes.reports import Capacity
from csi.volumes.requests import VolumeRequest

if TYPE_CHECKING:
    from csi.volumes.node import Node

_Rpc = pb.ControllerServiceCapability.RPC

# Not LIST_VOLUMES_PUBLISHED_NODES: it obliges to PUBLISH_UNPUBLISH_VOLUME, and here is nothing to attach.
CAPABILITIES: Final = (
    _Rpc.CREATE_DELETE_VOLUME,
    _Rpc.LIST_VOLUMES,
    _Rpc.GET_CAPACITY,
    _Rpc.CREATE_DELETE_SNAPSHOT,
    _Rpc.LIST_SNAPSHOTS,
    _Rpc.CLONE_VOLUME,
    _Rpc.EXPAND_VOLUME,
    _Rpc.GET_VOLUME,
    _Rpc.SINGLE_NODE_MULTI_WRITER,
    _Rpc.GET_SNAPSHOT,
    _Rpc.GET_VOLUME_HEALTH,
    _Rpc.LIST_VOLUME_HEALTH,
)
_NO_CAPACITY: Final = Capacity(Bytes(0), Bytes(0), Bytes(0))


def capabilities() -> list[pb.ControllerServiceCapability]:
    """Return CAPABILITIES as the service says them."""
    return [pb.ControllerServiceCapability(rpc=_Rpc(type=kind)) for kind in CAPABILITIES]


class Controller(ControllerServicer):
    """Serves ``csi.v1.Controller``; what is left out is UNIMPLEMENTED and not among the capabilities."""

    def __init__(self, node: "Node") -> None:
        self._node = node

    def ControllerGetCapabilities(
        self, request: pb.ControllerGetCapabilitiesRequest, context: grpc.ServicerContext
    ) -> pb.ControllerGetCapabilitiesResponse:
        """Say what this service can do."""
        return pb.ControllerGetCapabilitiesResponse(capabilities=capabilities())

    def CreateVolume(self, request: pb.CreateVolumeRequest, context: grpc.ServicerContext) -> pb.CreateVolumeResponse:
        """Make a volume, blank or from a snapshot or volume, or return the one made before by an equal request."""
        name = validate.name(request.name)
        wanted = capability.accesses(request.volume_capabilities)
        parameters.no_mutable(request)
        given = parameters.of_class(request.parameters)
        required, limit = validate.capacity(request.capacity_range)
        block = wanted[0].block
        # A class may serve claims for both kinds; a file system is of no concern to a raw block volume.
        fs_type = None if block else _one_fs_type([*(one.fs_type for one in wanted), given.fs_type])
        if not block and (fs_type or not request.HasField("volume_content_source")):
            capability.check_flags(wanted, fs_type or FsType.EXT4)
        topology.check(request.accessibility_requirements, self._node.name)
        source = self._source(request)
        device = self._node.create_volume(
            VolumeRequest(
                name=name,
                required=required,
                limit=limit,
                pool=given.pool,
                block=block,
                fs_type=fs_type,
                mkfs_profile=given.mkfs_profile,
                source=source,
            )
        )
        content = request.volume_content_source if source else None
        return pb.CreateVolumeResponse(volume=messages.volume(device, self._node, content))

    def _source(self, request: pb.CreateVolumeRequest) -> Handle | None:
        """Return the handle of the content source, None for a blank volume.

        Whether it exists is for the node to say, which first looks for the volume that an equal request made earlier.
        What is refused here is a snapshot's id where a volume's belongs, and the other way round.
        """
        if not request.HasField("volume_content_source"):
            return None
        content = request.volume_content_source
        field = "volume_content_source"
        if content.HasField("snapshot"):
            handle = validate.snapshot_id(content.snapshot.snapshot_id, f"{field}.snapshot.snapshot_id")
            kind, other = "snapshot", self._node.volume
        elif content.HasField("volume"):
            handle = validate.volume_id(content.volume.volume_id, f"{field}.volume.volume_id")
            kind, other = "volume", self._node.snapshot
        else:
            raise validate.invalid(field, "names neither a snapshot nor a volume")
        try:
            other(handle)
        except NotFoundError:
            return handle
        raise NotFoundError("find content source", str(handle), f"it is no {kind}")

    def DeleteVolume(self, request: pb.DeleteVolumeRequest, context: grpc.ServicerContext) -> pb.DeleteVolumeResponse:
        """Delete a volume; one that cannot be ours is gone already."""
        handle = Handle.parse(validate.required(request.volume_id, "volume_id"))
        if handle is not None:
            self._node.delete_volume(handle)
        return pb.DeleteVolumeResponse()

    def ValidateVolumeCapabilities(
        self, request: pb.ValidateVolumeCapabilitiesRequest, context: grpc.ServicerContext
    ) -> pb.ValidateVolumeCapabilitiesResponse:
        """Confirm, or say what of it the volume does not offer."""
        text = validate.required(request.volume_id, "volume_id")
        try:
            wanted, refused = capability.accesses(request.volume_capabilities), ""
        except capability.UnsupportedError as error:
            wanted, refused = [], str(error)
        parameters.no_mutable(request)
        given = parameters.of_class(request.parameters)
        parameters.refuse(request.volume_context, "volume_context")
        device = self._node.volume(validate.volume_id(text))
        reasons = [refused, *(capability.misfit(one, device) for one in wanted)]
        if given.pool not in (None, self._node.pool_name(device.handle.pool)):
            reasons.append(f"{device.handle} is not in pool {given.pool}")
        if given.fs_type not in (None, device.fs_type) and device.fs_type is not None:
            reasons.append(f"{device.handle} has {device.fs_type}, not {given.fs_type}")
        message = "; ".join(reason for reason in reasons if reason)
        if message:
            return pb.ValidateVolumeCapabilitiesResponse(message=message)
        return pb.ValidateVolumeCapabilitiesResponse(
            confirmed=pb.ValidateVolumeCapabilitiesResponse.Confirmed(
                volume_context=request.volume_context,
                volume_capabilities=request.volume_capabilities,
                parameters=request.parameters,
            )
        )

    def ListVolumes(self, request: pb.ListVolumesRequest, context: grpc.ServicerContext) -> pb.ListVolumesResponse:
        """List one page of the volumes; inline volumes, the kubelet's own affair, are not among them."""
        page = Page.read("volumes", request.max_entries, request.starting_token)
        self._node.require_whole("list volumes")
        listed, following = page.cut(self._node.volumes(page.after, page.size + 1), _handle)
        return pb.ListVolumesResponse(
            entries=[pb.ListVolumesResponse.Entry(volume=each) for each in messages.volumes(listed, self._node)],
            next_token=following,
        )

    def ControllerGetVolume(
        self, request: pb.ControllerGetVolumeRequest, context: grpc.ServicerContext
    ) -> pb.ControllerGetVolumeResponse:
        """Return one volume as it is now."""
        device = self._node.volume(validate.volume_id(request.volume_id))
        return pb.ControllerGetVolumeResponse(
            volume=messages.volume(device, self._node), status=pb.ControllerGetVolumeResponse.VolumeStatus()
        )

    def GetCapacity(self, request: pb.GetCapacityRequest, context: grpc.ServicerContext) -> pb.GetCapacityResponse:
        """Tell what could still be created: zero elsewhere, for what no volume can be, and while a pool is away.

        An error would leave the figure of a minute ago standing, so there is none but for a bad request.
        """
        given = parameters.of_class(request.parameters)
        here = not request.HasField("accessible_topology") or topology.is_here(
            request.accessible_topology, self._node.name, "accessible_topology"
        )
        try:
            if request.volume_capabilities:
                capability.accesses(request.volume_capabilities)
        except capability.UnsupportedError:
            here = False
        left = self._capacity(given.pool) if here else _NO_CAPACITY
        return pb.GetCapacityResponse(
            available_capacity=left.available,
            maximum_volume_size=Int64Value(value=left.maximum),
            minimum_volume_size=Int64Value(value=left.minimum) if left.minimum else None,
        )

    def _capacity(self, pool: str | None) -> Capacity:
        try:
            return self._node.capacity(pool)
        except (InvalidRequestError, NotFoundError, UnavailableError) as error:
            # The pool is another node's, or it is not open.
            structlog.get_logger().info("no capacity", pool=pool, reason=str(error))
            return _NO_CAPACITY

    def CreateSnapshot(
        self, request: pb.CreateSnapshotRequest, context: grpc.ServicerContext
    ) -> pb.CreateSnapshotResponse:
        """Cut a snapshot, or return the one cut before by an equal request."""
        name = validate.name(request.name)
        text = validate.required(request.source_volume_id, "source_volume_id")
        parameters.refuse(request.parameters, "parameters")
        topology.check(request.accessibility_requirements, self._node.name)
        device = self._node.create_snapshot(name, validate.volume_id(text, "source_volume_id"))
        return pb.CreateSnapshotResponse(snapshot=messages.snapshot(device, self._node.name))

    def DeleteSnapshot(
        self, request: pb.DeleteSnapshotRequest, context: grpc.ServicerContext
    ) -> pb.DeleteSnapshotResponse:
        """Delete a snapshot; one that cannot be ours is gone already."""
        handle = Handle.parse(validate.required(request.snapshot_id, "snapshot_id"))
        if handle is not None:
            self._node.delete_snapshot(handle)
        return pb.DeleteSnapshotResponse()

    def GetSnapshot(self, request: pb.GetSnapshotRequest, context: grpc.ServicerContext) -> pb.GetSnapshotResponse:
        """Return one snapshot as it is now."""
        device = self._node.snapshot(validate.snapshot_id(request.snapshot_id))
        return pb.GetSnapshotResponse(snapshot=messages.snapshot(device, self._node.name))

    def ListSnapshots(
        self, request: pb.ListSnapshotsRequest, context: grpc.ServicerContext
    ) -> pb.ListSnapshotsResponse:
        """List one page of the snapshots, all or by id or by source volume; an unknown id finds nothing."""
        page = Page.read("snapshots", request.max_entries, request.starting_token)
        listed, following = page.cut(self._snapshots(request.snapshot_id, request.source_volume_id, page), _handle)
        return pb.ListSnapshotsResponse(
            entries=[
                pb.ListSnapshotsResponse.Entry(snapshot=messages.snapshot(device, self._node.name)) for device in listed
            ],
            next_token=following,
        )

    def _snapshots(self, wanted: str, source: str, page: Page) -> list[Device]:
        if wanted:
            try:
                found = [self._node.snapshot(validate.snapshot_id(wanted))]
            except NotFoundError:
                return []
        else:
            self._node.require_whole("list snapshots")
            # Of one volume's there may be any number among them.
            found = self._node.snapshots(page.after, None if source else page.size + 1)
        return [device for device in found if messages.source_volume(device) == source] if source else found

    def ControllerExpandVolume(
        self, request: pb.ControllerExpandVolumeRequest, context: grpc.ServicerContext
    ) -> pb.ControllerExpandVolumeResponse:
        """Grow a volume; the file system on it follows at the node."""
        text = validate.required(request.volume_id, "volume_id")
        required, limit = validate.capacity(request.capacity_range)
        if not required and not limit:
            raise validate.invalid("capacity_range", "is required, with at least one of its bounds")
        wanted = capability.access(request.volume_capability) if request.HasField("volume_capability") else None
        handle = validate.volume_id(text)
        if wanted is not None:
            capability.require_fit(wanted, self._node.volume(handle))
        device = self._node.expand_volume(handle, required, limit)
        return pb.ControllerExpandVolumeResponse(
            capacity_bytes=device.size, node_expansion_required=device.fs_type is not None
        )

    def ControllerGetVolumeHealth(
        self, request: pb.ControllerGetVolumeHealthRequest, context: grpc.ServicerContext
    ) -> pb.ControllerGetVolumeHealthResponse:
        """Tell what is wrong with one volume."""
        handle = validate.volume_id(request.volume_id)
        return pb.ControllerGetVolumeHealthResponse(
            volume_health=messages.volume_health(str(handle), self._node.volume_health(handle))
        )

    def ControllerListVolumeHealth(
        self, request: pb.ControllerListVolumeHealthRequest, context: grpc.ServicerContext
    ) -> pb.ControllerListVolumeHealthResponse:
        """List one page of the volumes with which something is wrong."""
        self._node.require_whole("list health of volumes")
        page = Page.read("health", request.max_entries, request.starting_token)
        ailing = [each for each in self._node.volumes_health() if each[1]]
        listed, following = page.cut(ailing, lambda each: each[0].handle)
        return pb.ControllerListVolumeHealthResponse(
            entries=[messages.volume_health(str(device.handle), conditions) for device, conditions in listed],
            next_token=following,
        )


def _handle(device: Device) -> Handle:
    return device.handle


def _one_fs_type(given: list[FsType | None]) -> FsType | None:
    """Return the one file system that is asked for, None where none is. Raise InvalidRequestError for several."""
    kinds = {kind for kind in given if kind is not None}
    if len(kinds) > 1:
        raise validate.invalid("parameters", f"ask for several file systems at once: {', '.join(sorted(kinds))}")
    return next(iter(kinds), None)
