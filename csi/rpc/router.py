"""The controller's Controller service: every request goes to the node that must do it; nothing is kept here."""

import hashlib
from collections.abc import Callable, Iterable, Sequence
from typing import Final, Protocol, TypeVar

import grpc
from google.protobuf.message import Message
from google.protobuf.wrappers_pb2 import Int64Value

from csi.errors import DriverError, NotFoundError, PlacementError, UnavailableError
from csi.model import TOPOLOGY_KEY, GroupHandle, Handle, PoolId
from csi.pb.csi.v1 import csi_pb2 as pb
from csi.pb.csi.v1.csi_pb2_grpc import ControllerServicer, ControllerStub
from csi.rpc import controller, parameters, topology, validate
from csi.rpc.fleet import Fleet, LostError, Seat, disputed
from csi.rpc.forward import Forwarder
from csi.rpc.pages import Page
from csi.rpc.status import ForwardedError
from csi.rpc.unclear import Unclear

_Answer = TypeVar("_Answer", bound=Message)
_Entry = TypeVar("_Entry", bound=Message)

# A node that has no room, or that cannot be reached, is no reason not to ask the next.
_NEXT: Final = (grpc.StatusCode.RESOURCE_EXHAUSTED,)
# The node may have made it, or be at it still.
_UNCLEAR: Final = (
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.CANCELLED,
    grpc.StatusCode.ABORTED,
    grpc.StatusCode.UNKNOWN,
)


class Router(ControllerServicer):
    """Serves ``csi.v1.Controller`` for all nodes."""

    def __init__(self, fleet: Fleet, forwarder: Forwarder) -> None:
        self._fleet = fleet
        self._forwarder = forwarder
        self._unclear = Unclear()

    def ControllerGetCapabilities(
        self, request: pb.ControllerGetCapabilitiesRequest, context: grpc.ServicerContext
    ) -> pb.ControllerGetCapabilitiesResponse:
        """Say what every node can do."""
        return pb.ControllerGetCapabilitiesResponse(capabilities=controller.capabilities())

    # -- volumes ------------------------------------------------------------------------------------------------

    def CreateVolume(self, request: pb.CreateVolumeRequest, context: grpc.ServicerContext) -> pb.CreateVolumeResponse:
        """Make a volume where its source is, else on the node that was chosen, else on the first that takes it."""
        operation, name = "create volume", validate.name(request.name)
        refused: list[str] = []
        for seat in self._unclear.first(name, self._candidates(operation, name, request)):
            try:
                # Not where another node claims the pool too.
                assert seat.pool_id is not None, "a candidate's pool was made"  # noqa: S101 - narrows the type
                self._fleet.owner(operation, seat.pool_id, name)
                made = self._forwarder.ask(
                    seat,
                    context,
                    lambda channel, limit: ControllerStub(channel).CreateVolume(request, timeout=limit),
                    elsewhere=not self._unclear.at(name, seat),
                )
                here = list(made.volume.accessible_topology) == [topology.of_node(seat.node)]
                require_own(operation, name, seat, [Handle.parse(made.volume.volume_id)], here=here)
            except PlacementError as error:
                refused.append(str(error))
            except ForwardedError as error:
                if error.code in _UNCLEAR:
                    self._unclear.add(name, seat)
                if error.code not in _NEXT:
                    raise
                refused.append(str(error))
                self._unclear.forget(name)
            else:
                self._unclear.forget(name)
                return made
        raise PlacementError(operation, name, "; ".join(refused) or "no node has a pool for it")

    def _candidates(self, operation: str, name: str, request: pb.CreateVolumeRequest) -> list[Seat]:
        """Return the seats to ask, the most wanted first. Raise PlacementError if there is none."""
        allowed, chosen = _nodes(request.accessibility_requirements)
        given = parameters.of_class(request.parameters)
        source = _source(request)
        if source is not None:
            try:
                seat = self._fleet.owner(operation, source.pool, str(source))
            except LostError as error:
                raise NotFoundError(operation, str(source), error.why) from error
            # Elsewhere than chosen, if need be: the scheduler then follows the volume.
            if allowed and seat.node not in allowed:
                raise PlacementError(operation, name, f"its source {source} is on node {seat.node}")
            return [seat]
        known = self._fleet.seats()
        seats = [seat for seat in known if not seat.lost and not seat.leaving and seat.pool_id]
        pools = {seat.pool for seat in seats}
        if given.pool is None and len(pools) > 1:
            raise validate.invalid("parameters", f"name no pool, and there are {', '.join(sorted(pools))}")
        seats = [seat for seat in seats if given.pool in (None, seat.pool)]
        if chosen:
            # The pod may be unable to run on any other. Refused, it is the scheduler that chooses another.
            seats = [seat for seat in seats if seat.node == chosen]
            if not seats:
                raise PlacementError(operation, name, f"node {chosen} has no pool for it")
            return seats
        seats = [seat for seat in seats if not allowed or seat.node in allowed]
        # One that may have made it stays: full by now, or claimed by another too, it has the volume all the same.
        unclear = [seat for seat in seats if self._unclear.at(name, seat)]
        twice = disputed(known)
        seats = [seat for seat in seats if seat.pool_id not in twice or seat in unclear] or seats
        # In an order that is the same for each attempt: a volume whose making was not answered is found again.
        size = request.capacity_range.required_bytes
        roomy = [seat for seat in seats if seat.available >= size or seat in unclear]
        return sorted(roomy or seats, key=lambda seat: hashlib.sha256(f"{name}\0{seat.name}".encode()).digest())

    def DeleteVolume(self, request: pb.DeleteVolumeRequest, context: grpc.ServicerContext) -> pb.DeleteVolumeResponse:
        """Delete a volume; one that cannot be ours, or of a pool that was given up, is gone already."""
        handle = Handle.parse(validate.required(request.volume_id, "volume_id"))
        return self._delete(
            handle,
            context,
            lambda channel, limit: ControllerStub(channel).DeleteVolume(request, timeout=limit),
            pb.DeleteVolumeResponse(),
        )

    def ControllerExpandVolume(
        self, request: pb.ControllerExpandVolumeRequest, context: grpc.ServicerContext
    ) -> pb.ControllerExpandVolumeResponse:
        """Grow a volume."""
        handle = validate.volume_id(validate.required(request.volume_id, "volume_id"))
        return self._ask(
            "expand volume",
            handle,
            context,
            lambda channel, limit: ControllerStub(channel).ControllerExpandVolume(request, timeout=limit),
        )

    def ControllerGetVolume(
        self, request: pb.ControllerGetVolumeRequest, context: grpc.ServicerContext
    ) -> pb.ControllerGetVolumeResponse:
        """Return one volume as it is now."""
        return self._ask(
            "get volume",
            validate.volume_id(request.volume_id),
            context,
            lambda channel, limit: ControllerStub(channel).ControllerGetVolume(request, timeout=limit),
        )

    def ValidateVolumeCapabilities(
        self, request: pb.ValidateVolumeCapabilitiesRequest, context: grpc.ServicerContext
    ) -> pb.ValidateVolumeCapabilitiesResponse:
        """Confirm, or say what of it the volume does not offer."""
        return self._ask(
            "validate volume",
            validate.volume_id(validate.required(request.volume_id, "volume_id")),
            context,
            lambda channel, limit: ControllerStub(channel).ValidateVolumeCapabilities(request, timeout=limit),
        )

    def ListVolumes(self, request: pb.ListVolumesRequest, context: grpc.ServicerContext) -> pb.ListVolumesResponse:
        """List one page of all nodes' volumes."""
        page = Page.read("volumes", request.max_entries, request.starting_token)
        answers = self._from_all(
            context, lambda channel, limit: ControllerStub(channel).ListVolumes(request, timeout=limit)
        )
        found = [entry for answer in answers for entry in answer.entries]
        entries, token = _cut(page, found, answers, lambda entry: entry.volume.volume_id)
        return pb.ListVolumesResponse(entries=entries, next_token=token)

    def GetCapacity(self, request: pb.GetCapacityRequest, context: grpc.ServicerContext) -> pb.GetCapacityResponse:
        """Tell what could still be created: of one node, or of all together; 0 for what is out of reach."""
        given = parameters.of_class(request.parameters)
        known = self._fleet.seats()
        twice = disputed(known)
        seats = [seat for seat in known if not seat.lost and not seat.leaving and seat.pool_id]
        seats = [seat for seat in seats if given.pool in (None, seat.pool) and seat.pool_id not in twice]
        if request.HasField("accessible_topology"):
            node = request.accessible_topology.segments.get(TOPOLOGY_KEY)
            seats = [seat for seat in seats if seat.node == node]
        once = list({seat.node: seat for seat in seats}.values())
        asked = self._forwarder.ask_all(once, context, lambda channel, limit: self._capacity(request, channel, limit))
        answers = [each for each in asked if not isinstance(each, DriverError)]
        invalid = next(
            (
                each
                for each in asked
                if isinstance(each, ForwardedError) and each.code is grpc.StatusCode.INVALID_ARGUMENT
            ),
            None,
        )
        if invalid is not None:
            raise invalid
        least = min(
            (each.minimum_volume_size.value for each in answers if each.HasField("minimum_volume_size")), default=0
        )
        return pb.GetCapacityResponse(
            available_capacity=sum(each.available_capacity for each in answers),
            maximum_volume_size=Int64Value(value=max((each.maximum_volume_size.value for each in answers), default=0)),
            minimum_volume_size=Int64Value(value=least) if least else None,
        )

    def _capacity(self, request: pb.GetCapacityRequest, channel: grpc.Channel, limit: float) -> pb.GetCapacityResponse:
        here = pb.GetCapacityRequest()
        here.CopyFrom(request)
        # Of this node alone, which knows itself best.
        here.ClearField("accessible_topology")
        return ControllerStub(channel).GetCapacity(here, timeout=limit)

    # -- snapshots ----------------------------------------------------------------------------------------------

    def CreateSnapshot(
        self, request: pb.CreateSnapshotRequest, context: grpc.ServicerContext
    ) -> pb.CreateSnapshotResponse:
        """Cut a snapshot where its volume is."""
        operation = "create snapshot"
        text = validate.required(request.source_volume_id, "source_volume_id")
        name = validate.name(request.name)
        source = validate.volume_id(text, "source_volume_id")
        seat = owner(self._fleet, operation, source.pool, str(source))
        made = self._forwarder.ask(
            seat, context, lambda channel, limit: ControllerStub(channel).CreateSnapshot(request, timeout=limit)
        )
        ids = (made.snapshot.snapshot_id, made.snapshot.source_volume_id)
        require_own(operation, name, seat, map(Handle.parse, ids))
        return made

    def DeleteSnapshot(
        self, request: pb.DeleteSnapshotRequest, context: grpc.ServicerContext
    ) -> pb.DeleteSnapshotResponse:
        """Delete a snapshot; one that cannot be ours, or of a pool that was given up, is gone already."""
        handle = Handle.parse(validate.required(request.snapshot_id, "snapshot_id"))
        return self._delete(
            handle,
            context,
            lambda channel, limit: ControllerStub(channel).DeleteSnapshot(request, timeout=limit),
            pb.DeleteSnapshotResponse(),
        )

    def GetSnapshot(self, request: pb.GetSnapshotRequest, context: grpc.ServicerContext) -> pb.GetSnapshotResponse:
        """Return one snapshot as it is now."""
        return self._ask(
            "get snapshot",
            validate.snapshot_id(request.snapshot_id),
            context,
            lambda channel, limit: ControllerStub(channel).GetSnapshot(request, timeout=limit),
        )

    def ListSnapshots(
        self, request: pb.ListSnapshotsRequest, context: grpc.ServicerContext
    ) -> pb.ListSnapshotsResponse:
        """List one page of all nodes' snapshots; of one id or one source only the node that can have it is asked."""
        page = Page.read("snapshots", request.max_entries, request.starting_token)

        def call(channel: grpc.Channel, limit: float) -> pb.ListSnapshotsResponse:
            return ControllerStub(channel).ListSnapshots(request, timeout=limit)

        named = request.snapshot_id or request.source_volume_id
        if named:
            handle = Handle.parse(named)
            if handle is None:
                return pb.ListSnapshotsResponse()
            try:
                return self._forwarder.ask(self._fleet.owner("list snapshots", handle.pool, named), context, call)
            except LostError:
                return pb.ListSnapshotsResponse()
        answers = self._from_all(context, call)
        found = [entry for answer in answers for entry in answer.entries]
        entries, token = _cut(page, found, answers, lambda entry: entry.snapshot.snapshot_id)
        return pb.ListSnapshotsResponse(entries=entries, next_token=token)

    # -- health -------------------------------------------------------------------------------------------------

    def ControllerGetVolumeHealth(
        self, request: pb.ControllerGetVolumeHealthRequest, context: grpc.ServicerContext
    ) -> pb.ControllerGetVolumeHealthResponse:
        """Tell what is wrong with one volume."""
        return self._ask(
            "get volume health",
            validate.volume_id(request.volume_id),
            context,
            lambda channel, limit: ControllerStub(channel).ControllerGetVolumeHealth(request, timeout=limit),
        )

    def ControllerListVolumeHealth(
        self, request: pb.ControllerListVolumeHealthRequest, context: grpc.ServicerContext
    ) -> pb.ControllerListVolumeHealthResponse:
        """List one page of the volumes of all nodes with which something is wrong."""
        page = Page.read("health", request.max_entries, request.starting_token)
        answers = self._from_all(
            context, lambda channel, limit: ControllerStub(channel).ControllerListVolumeHealth(request, timeout=limit)
        )
        found = [entry for answer in answers for entry in answer.entries]
        entries, token = _cut(page, found, answers, lambda entry: entry.volume_id)
        return pb.ControllerListVolumeHealthResponse(entries=entries, next_token=token)

    # -- inside -------------------------------------------------------------------------------------------------

    def _ask(
        self,
        operation: str,
        handle: Handle,
        context: grpc.ServicerContext,
        call: Callable[[grpc.Channel, float], _Answer],
    ) -> _Answer:
        return self._forwarder.ask(owner(self._fleet, operation, handle.pool, str(handle)), context, call)

    def _delete(
        self,
        handle: Handle | None,
        context: grpc.ServicerContext,
        call: Callable[[grpc.Channel, float], _Answer],
        done: _Answer,
    ) -> _Answer:
        if handle is None:
            return done
        try:
            seat = self._fleet.owner("delete", handle.pool, str(handle))
        except LostError:
            return done
        return self._forwarder.ask(seat, context, call)

    def _from_all(self, context: grpc.ServicerContext, call: Callable[[grpc.Channel, float], _Answer]) -> list[_Answer]:
        """Return the answers of all nodes. Raise UnavailableError if one is missing: a list is whole or none."""
        seats = self._fleet.nodes()
        answers: list[_Answer] = []
        for seat, answer in zip(seats, self._forwarder.ask_all(seats, context, call), strict=True):
            if isinstance(answer, DriverError):
                raise UnavailableError("list", f"node {seat.node}", str(answer)) from answer
            answers.append(answer)
        return answers


def owner(fleet: Fleet, operation: str, pool_id: PoolId, subject: str) -> Seat:
    """Return the seat of a pool; what was in one that was given up is not found."""
    try:
        return fleet.owner(operation, pool_id, subject)
    except LostError as error:
        raise NotFoundError(operation, subject, error.why) from error


def require_own(
    operation: str, name: str, seat: Seat, ids: Iterable[Handle | GroupHandle | None], *, here: bool = True
) -> None:
    """Raise UnavailableError unless what a node says it has made is in the pool that it was asked for, and ``here``.

    A node that was taken over could answer with what is another's, for this claim to read and to delete.
    """
    if not here or any(each is None or each.pool != seat.pool_id for each in ids):
        why = f"node {seat.node} answers with what is not its own"
        raise UnavailableError(operation, name, why, way_out="see what serves there in place of its plugin")


def _nodes(requirement: pb.TopologyRequirement) -> tuple[frozenset[str], str]:
    """Return the nodes that will do, none if any will, and the one of them that is preferred, "" if none is."""
    requisite = [each.segments.get(TOPOLOGY_KEY, "") for each in requirement.requisite]
    preferred = [each.segments.get(TOPOLOGY_KEY, "") for each in requirement.preferred]
    chosen = next((node for node in preferred if node in requisite or not requisite), "")
    return frozenset(requisite or preferred), chosen


def _source(request: pb.CreateVolumeRequest) -> Handle | None:
    content = request.volume_content_source
    if content.HasField("snapshot"):
        return validate.snapshot_id(content.snapshot.snapshot_id, "volume_content_source.snapshot.snapshot_id")
    if content.HasField("volume"):
        return validate.volume_id(content.volume.volume_id, "volume_content_source.volume.volume_id")
    return None


class _Listing(Protocol):
    """One page of a node."""

    next_token: str


def _cut(
    page: Page, found: Sequence[_Entry], answers: Sequence[_Listing], id_of: Callable[[_Entry], str]
) -> tuple[list[_Entry], str]:
    """Return the page of what the nodes' pages hold together, and the token of the next.

    A page is cut at a handle and each node goes on from there, so what lies beyond it is listed by the next one.
    """
    cut = sorted(found, key=id_of)[: page.size]
    more = len(found) > len(cut) or any(answer.next_token for answer in answers)
    return cut, f"{page.kind}:{id_of(cut[-1])}" if cut and more else ""
