"""Calls passed on to a node, over TLS."""

import time

import grpc
import pytest

from csi.pb.csi.v1 import csi_pb2 as pb
from csi.pb.csi.v1.csi_pb2_grpc import ControllerStub
from csi.rpc.fleet import Seat
from csi.rpc.forward import Channels, Forwarder
from csi.rpc.status import ForwardedError
from csi.rpc.trust import CONTROLLER, Own
from tests.unit.rpc.cluster import A, OneNode


def test_a_node_that_takes_no_more_calls_says_nothing_of_its_room() -> None:
    """RESOURCE_EXHAUSTED, as gRPC itself has it, would have a volume made elsewhere that may be here already."""
    own = Own(CONTROLLER)
    node, channels = OneNode("a", A, own.published(), calls=1), Channels(own)
    forwarder, seat = Forwarder(channels), Seat.of(node.thin_pool_node())
    # Known to be there: to ask for that would be one call too many.
    channels.to(seat).answered = time.monotonic()
    codes: list[grpc.StatusCode] = []

    def ask() -> pb.GetCapacityResponse:
        request = pb.GetCapacityRequest()
        return forwarder.ask(
            seat, None, lambda channel, limit: ControllerStub(channel).GetCapacity(request, timeout=limit)
        )

    def ask_meanwhile() -> None:
        with pytest.raises(ForwardedError, match="node a: Concurrent RPC limit exceeded!") as error:
            ask()
        codes.append(error.value.code)

    node.during = ask_meanwhile
    try:
        assert ask().available_capacity == node.room.available
    finally:
        forwarder.close()
        node.stop()
    assert codes == [grpc.StatusCode.UNAVAILABLE]
