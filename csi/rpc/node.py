"""The Node service: volumes staged, published and grown on this node."""

from typing import TYPE_CHECKING, Final

import grpc

from csi.errors import NotFoundError, StateError
from csi.model import Handle
from csi.pb.csi.v1 import csi_pb2 as pb
from csi.pb.csi.v1.csi_pb2_grpc import NodeServicer
from csi.rpc import capability, messages, parameters, topology, validate
from csi.volumes.requests import Access, VolumeRequest

if TYPE_CHECKING:
    from csi.volumes.node import Node

_Rpc = pb.NodeServiceCapability.RPC

CAPABILITIES: Final = (
    _Rpc.STAGE_UNSTAGE_VOLUME,
    _Rpc.GET_VOLUME_STATS,
    _Rpc.EXPAND_VOLUME,
    _Rpc.SINGLE_NODE_MULTI_WRITER,
    _Rpc.GET_VOLUME_HEALTH,
    _Rpc.GET_STORAGE_HEALTH,
)


class NodeService(NodeServicer):
    """Serves ``csi.v1.Node``."""

    def __init__(self, node: "Node") -> None:
        self._node = node

    def NodeGetCapabilities(
        self, request: pb.NodeGetCapabilitiesRequest, context: grpc.ServicerContext
    ) -> pb.NodeGetCapabilitiesResponse:
        """Say what this service can do."""
        return pb.NodeGetCapabilitiesResponse(
            capabilities=[pb.NodeServiceCapability(rpc=_Rpc(type=kind)) for kind in CAPABILITIES]
        )

    def NodeGetInfo(self, request: pb.NodeGetInfoRequest, context: grpc.ServicerContext) -> pb.NodeGetInfoResponse:
        """Give the node's name, its place, and how many volumes it takes."""
        return pb.NodeGetInfoResponse(
            node_id=self._node.name,
            max_volumes_per_node=self._node.volume_limit,
            accessible_topology=topology.of_node(self._node.name),
        )

    def NodeStageVolume(
        self, request: pb.NodeStageVolumeRequest, context: grpc.ServicerContext
    ) -> pb.NodeStageVolumeResponse:
        """Activate a volume, make its file system if it is new, and mount it."""
        text = validate.required(request.volume_id, "volume_id")
        path = validate.path(request.staging_target_path, "staging_target_path")
        access = _access(request)
        parameters.refuse(request.volume_context, "volume_context")
        self._node.stage(validate.volume_id(text), path, access)
        return pb.NodeStageVolumeResponse()

    def NodeUnstageVolume(
        self, request: pb.NodeUnstageVolumeRequest, context: grpc.ServicerContext
    ) -> pb.NodeUnstageVolumeResponse:
        """Undo NodeStageVolume."""
        text = validate.required(request.volume_id, "volume_id")
        path = validate.path(request.staging_target_path, "staging_target_path")
        self._node.unstage(validate.volume_id(text), path)
        return pb.NodeUnstageVolumeResponse()

    def NodePublishVolume(
        self, request: pb.NodePublishVolumeRequest, context: grpc.ServicerContext
    ) -> pb.NodePublishVolumeResponse:
        """Show a staged volume at its target; an inline volume is made and staged on the way."""
        text = validate.required(request.volume_id, "volume_id")
        target = validate.path(request.target_path, "target_path")
        access = _access(request)
        if parameters.is_inline(request.volume_context):
            self._publish_inline(request, target, access)
            return pb.NodePublishVolumeResponse()
        parameters.refuse(request.volume_context, "volume_context")
        if not request.staging_target_path:
            raise StateError("publish volume", validate.shown(text), "staging_target_path is not set: stage it first")
        staging = validate.path(request.staging_target_path, "staging_target_path")
        self._node.publish(validate.volume_id(text), staging, target, access, readonly=request.readonly)
        return pb.NodePublishVolumeResponse()

    def _publish_inline(self, request: pb.NodePublishVolumeRequest, target: str, access: Access) -> None:
        name = validate.ephemeral_id(request.volume_id)
        given = parameters.of_inline(request.volume_context)
        if access.block:
            raise validate.invalid("volume_capability", "an inline volume has a file system")
        if given.fs_type and access.fs_type and given.fs_type is not access.fs_type:
            raise validate.invalid("volume_context.fstype", f"{given.fs_type}, but {access.fs_type} is to be mounted")
        wanted = VolumeRequest(
            name=name,
            required=given.size,
            pool=given.pool,
            fs_type=given.fs_type or access.fs_type,
            mkfs_profile=given.mkfs_profile,
            ephemeral=True,
        )
        self._node.publish_ephemeral(name, target, wanted, access, readonly=request.readonly)

    def NodeUnpublishVolume(
        self, request: pb.NodeUnpublishVolumeRequest, context: grpc.ServicerContext
    ) -> pb.NodeUnpublishVolumeResponse:
        """Undo NodePublishVolume; an inline volume is gone with it."""
        text = validate.required(request.volume_id, "volume_id")
        target = validate.path(request.target_path, "target_path")
        self._node.unpublish(validate.published_id(text), target)
        return pb.NodeUnpublishVolumeResponse()

    def NodeGetVolumeStats(
        self, request: pb.NodeGetVolumeStatsRequest, context: grpc.ServicerContext
    ) -> pb.NodeGetVolumeStatsResponse:
        """Tell how full a volume is."""
        text = validate.required(request.volume_id, "volume_id")
        path = validate.required(request.volume_path, "volume_path")
        _optional_path(request.staging_target_path, "staging_target_path")
        usage = self._node.usage(self._handle(text), _place(path, text))
        figures = [
            pb.VolumeUsage(
                unit=pb.VolumeUsage.BYTES, total=usage.total, used=usage.used, available=max(0, usage.available)
            )
        ]
        if usage.inodes:
            figures.append(
                pb.VolumeUsage(
                    unit=pb.VolumeUsage.INODES,
                    total=usage.inodes,
                    used=usage.inodes_used,
                    available=usage.inodes_free,
                )
            )
        return pb.NodeGetVolumeStatsResponse(usage=figures)

    def NodeExpandVolume(
        self, request: pb.NodeExpandVolumeRequest, context: grpc.ServicerContext
    ) -> pb.NodeExpandVolumeResponse:
        """Grow the file system of a volume in use to the size that the volume has."""
        text = validate.required(request.volume_id, "volume_id")
        path = validate.required(request.volume_path, "volume_path")
        _optional_path(request.staging_target_path, "staging_target_path")
        required, _limit = validate.capacity(request.capacity_range)
        wanted = capability.access(request.volume_capability) if request.HasField("volume_capability") else None
        handle = validate.volume_id(text)
        if wanted is not None:
            capability.require_fit(wanted, self._node.volume(handle))
        size = self._node.expand_fs(handle, _place(path, text), required)
        return pb.NodeExpandVolumeResponse(capacity_bytes=size)

    def NodeGetVolumeHealth(
        self, request: pb.NodeGetVolumeHealthRequest, context: grpc.ServicerContext
    ) -> pb.NodeGetVolumeHealthResponse:
        """Tell what is wrong with one volume."""
        text = validate.required(request.volume_id, "volume_id")
        _optional_path(request.volume_publish_path, "volume_publish_path")
        _optional_path(request.staging_target_path, "staging_target_path")
        conditions = self._node.volume_health(self._handle(text))
        return pb.NodeGetVolumeHealthResponse(volume_health=messages.volume_health(text, conditions))

    def NodeGetStorageHealth(
        self, request: pb.NodeGetStorageHealthRequest, context: grpc.ServicerContext
    ) -> pb.NodeGetStorageHealthResponse:
        """Tell what is wrong with the node's pools."""
        return messages.storage_health(self._node.storage_health())

    def _handle(self, text: str) -> Handle:
        """Return the handle of a volume: its id, or for an inline volume that of the one made under its id."""
        # The kubelet asks for the figures of inline volumes as well.
        return Handle.parse(text) or self._node.inline(validate.published_id(text)).handle


def _access(request: pb.NodeStageVolumeRequest | pb.NodePublishVolumeRequest) -> Access:
    """Read how a volume is to be used here. What no volume offers is FAILED_PRECONDITION in these two calls."""
    if not request.HasField("volume_capability"):
        raise validate.invalid("volume_capability", "is required")
    parameters.refuse_all(request.publish_context, "publish_context", "nothing is attached, so there is no context")
    try:
        return capability.access(request.volume_capability)
    except capability.UnsupportedError as error:
        raise StateError(error.operation, error.subject, error.why) from None


def _place(path: str, volume: str) -> str:
    """Return the path at which a volume is said to be; where no path can be, it is not: NotFoundError."""
    if not validate.is_path(path):
        raise NotFoundError("find volume", volume, f"not at {validate.shown(path)}")
    return path


def _optional_path(path: str, field: str) -> None:
    if path:
        validate.path(path, field)
