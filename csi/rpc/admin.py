"""The driver's own service beside CSI: what the command line asks of a running node."""

from typing import TYPE_CHECKING, Final

import grpc

from csi.model import Claim, FsType, GroupHandle, Handle, Kind
from csi.pb.thinpool.v1 import admin_pb2 as pb
from csi.pb.thinpool.v1.admin_pb2_grpc import AdminServicer
from csi.rpc.validate import invalid, shown
from csi.units import Bytes
from csi.volumes.reports import CheckReport, Condition, Listing, NodeReport, PoolReport

if TYPE_CHECKING:
    from csi.volumes.node import Node

_KINDS: Final = {
    pb.DEVICE_KIND_UNSPECIFIED: (Kind.VOLUME, Kind.SNAPSHOT),
    pb.DEVICE_KIND_VOLUME: (Kind.VOLUME,),
    pb.DEVICE_KIND_SNAPSHOT: (Kind.SNAPSHOT,),
}
# Those that are not simply copied.
_SPECIAL: Final = frozenset({"pool_id", "conditions"})


class Admin(AdminServicer):
    """Serves ``thinpool.v1.Admin``."""

    def __init__(self, node: "Node") -> None:
        self._node = node

    def GetNode(self, request: pb.GetNodeRequest, context: grpc.ServicerContext) -> pb.GetNodeResponse:
        """Return the figures of the node and its pools."""
        return _node(self._node.report())

    def ListDevices(self, request: pb.ListDevicesRequest, context: grpc.ServicerContext) -> pb.ListDevicesResponse:
        """List volumes, snapshots or both, with what they really take."""
        kinds = _KINDS.get(request.kind)
        if kinds is None:
            raise invalid("kind", f"{request.kind} is unknown")
        return pb.ListDevicesResponse(
            devices=[_device(listing) for kind in kinds for listing in self._node.listing(kind)]
        )

    def Check(self, request: pb.CheckRequest, context: grpc.ServicerContext) -> pb.CheckResponse:
        """Compare the catalogs with the pools' metadata."""
        return _check(self._node.check(rebuild=request.rebuild, claims=[_claim(each) for each in request.claims]))


def _claim(claim: pb.Claim) -> Claim:
    handle, group = Handle.parse(claim.handle), GroupHandle.parse(claim.group)
    kinds = _KINDS.get(claim.kind, ())
    if handle is None or len(kinds) != 1 or (claim.fs_type and claim.fs_type not in tuple(FsType)):
        raise invalid("claims", f"{shown(claim.handle)} is not claimed in a way that this version knows")
    return Claim(
        handle=handle,
        kind=kinds[0],
        name=claim.name or None,
        size=Bytes(claim.size),
        fs_type=FsType(claim.fs_type) if claim.fs_type else None,
        source=Handle.parse(claim.source),
        group=group.group if group else None,
        created=claim.created_ns,
    )


def _node(report: NodeReport) -> pb.GetNodeResponse:
    return pb.GetNodeResponse(
        node=report.node,
        version=report.version,
        library_version=report.library_version,
        target_versions=report.target_versions,
        deferred_removal=report.deferred_removal,
        deferred_deletion=report.deferred_deletion,
        pools=[_pool(pool) for pool in report.pools],
    )


def _pool(report: PoolReport) -> pb.Pool:
    # The message has the report's fields under the report's names.
    names = [field.name for field in pb.Pool.DESCRIPTOR.fields if field.name not in _SPECIAL]
    return pb.Pool(
        pool_id=report.pool_id or "",
        conditions=[_condition(condition) for condition in report.conditions],
        **{name: getattr(report, name) for name in names},
    )


def _condition(condition: Condition) -> pb.Condition:
    return pb.Condition(reason=condition.reason, message=condition.message, severity=condition.severity)


def _device(listing: Listing) -> pb.Device:
    device = listing.device
    pool = device.handle.pool
    return pb.Device(
        handle=str(device.handle),
        pool=listing.pool,
        name=device.name or "",
        state=device.state,
        size=device.size,
        mapped=listing.mapped,
        exclusive=listing.exclusive,
        origin=device.content_source,
        group="" if device.group is None else str(GroupHandle(pool, device.group)),
        fs_type=device.fs_type or "",
        fs_state=device.fs_state,
        active=listing.active,
        ephemeral=device.ephemeral,
        created_ns=device.created,
    )


def _check(report: CheckReport) -> pb.CheckResponse:
    return pb.CheckResponse(
        pools=report.pools,
        devices=report.devices,
        findings=[
            pb.Finding(
                pool=finding.pool,
                subject=finding.subject,
                message=finding.message,
                handle=str(finding.handle or ""),
            )
            for finding in report.findings
        ],
        thin_check=report.thin_check,
    )
