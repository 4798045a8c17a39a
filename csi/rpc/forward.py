"""Passing a call on to the node that must do it: channels that are kept, deadlines, and errors as they came."""

import math
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final, TypeVar, cast

import grpc

from csi.errors import DriverError, PlacementError, UnavailableError
from csi.pb.csi.v1 import csi_pb2 as pb
from csi.pb.csi.v1.csi_pb2_grpc import IdentityStub
from csi.rpc.fleet import Seat
from csi.rpc.status import ForwardedError
from csi.rpc.trust import Own, channel

CONNECT: Final = 3.0
"""Seconds for a connection; a node on the same network needs milliseconds."""
_LONGEST: Final = 60.0
"""Seconds for a call whose caller sets no deadline."""
_REPLY: Final = 0.2
"""Seconds of the caller's time that are kept for telling him that the node's were not enough."""
FRESH: Final = 5.0
"""For so many seconds a node that answered is taken to be there."""
_CHANNELS: Final = 1000
_MESSAGE: Final = 4 << 20
_OPTIONS: Final = (
    ("grpc.max_receive_message_length", _MESSAGE),
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    # A node that comes back is found within seconds.
    ("grpc.initial_reconnect_backoff_ms", 500),
    ("grpc.max_reconnect_backoff_ms", 5_000),
    ("grpc.enable_retries", 0),
)

# gRPC's own words (grpc/_server.py) for too many calls at once, under the code that nodes use for a full pool.
_BUSY: Final = "Concurrent RPC limit exceeded!"

_Answer = TypeVar("_Answer")
_Key = tuple[str, str, bytes]
"""Address and certificates of a node, and our own."""


@dataclass
class Link:
    """A channel, and when something last came back over it."""

    channel: grpc.Channel
    answered: float = -math.inf
    """On the monotonic clock."""

    def reaches(self, limit: float) -> bool:
        """Tell whether the node answers, asking it if that is not known from just now."""
        if time.monotonic() - self.answered > FRESH:
            try:
                IdentityStub(self.channel).Probe(pb.ProbeRequest(), timeout=max(limit, 0.0), wait_for_ready=True)
            except grpc.RpcError:
                return False
            self.answered = time.monotonic()
        return True


def _close_later(link: Link) -> None:
    """Close a channel that nobody is given any more, when the calls under way on it have had their time."""
    timer = threading.Timer(_LONGEST, link.channel.close)
    timer.daemon = True
    timer.start()


class Channels:
    """One channel to each node, made when it is first used, and anew when a certificate has changed."""

    def __init__(self, own: Own) -> None:
        self._own = own
        self._lock = threading.Lock()
        self._open: OrderedDict[str, tuple[_Key, Link]] = OrderedDict()
        """By node."""

    def to(self, seat: Seat) -> "Link":
        """Return the link to the node of ``seat``."""
        key = (seat.address, seat.certificate, self._own.used().pem)
        with self._lock:
            known, found = self._open.pop(seat.node, (None, None))
            if found is None or known != key:
                if found is not None:
                    _close_later(found)
                found = Link(channel(seat.address, self._own, seat.certificate, _OPTIONS))
            self._open[seat.node] = (key, found)
            while len(self._open) > _CHANNELS:
                _close_later(self._open.popitem(last=False)[1][1])
            return found

    def close(self) -> None:
        """Close all."""
        with self._lock:
            while self._open:
                self._open.popitem()[1][1].channel.close()


class Forwarder:
    """Passes calls on."""

    def __init__(self, channels: Channels) -> None:
        self._channels = channels
        self._fan = ThreadPoolExecutor(32, "fan-out")

    def close(self) -> None:
        """Close the channels."""
        self._fan.shutdown(wait=False, cancel_futures=True)
        self._channels.close()

    def ask(
        self,
        seat: Seat,
        context: grpc.ServicerContext | None,
        call: Callable[[grpc.Channel, float], _Answer],
        *,
        elsewhere: bool = False,
    ) -> _Answer:
        """Have the node of ``seat`` answer ``call(channel, seconds)``, in the time of ``context``, the caller's.

        Raise ForwardedError with the node's own code and words; one that takes no more calls is UNAVAILABLE, for that
        says nothing of its room. A node that cannot be reached before anything was sent is UnavailableError, or with
        ``elsewhere`` PlacementError: another node may be asked instead.
        """
        # gRPC's types do not know that there may be none.
        remaining = cast("float | None", context.time_remaining()) if context is not None else None
        limit = _LONGEST if remaining is None else min(remaining - _REPLY, _LONGEST)
        link = self._channels.to(seat) if seat.address and seat.certificate else None
        # Nothing was sent to a node that does not even answer this; of what is sent afterwards nobody knows.
        if link is None or not link.reaches(min(CONNECT, limit)):
            kind = PlacementError if elsewhere else UnavailableError
            way_out = f"see that its plugin's pod runs; for good, have spec.lost of ThinPoolNode {seat.name} say so"
            raise kind("reach", f"node {seat.node}", "it does not answer", way_out=way_out)
        try:
            answer = call(link.channel, limit)
        except grpc.RpcError as error:
            if error.code() in {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED}:
                link.answered = -math.inf
            code = grpc.StatusCode.UNAVAILABLE if error.details() == _BUSY else error.code()
            raise ForwardedError(code, f"node {seat.node}: {error.details() or 'no details'}") from error
        link.answered = time.monotonic()
        return answer

    def ask_all(
        self, seats: Sequence[Seat], context: grpc.ServicerContext, call: Callable[[grpc.Channel, float], _Answer]
    ) -> "list[_Answer | DriverError]":
        """Ask the nodes of all ``seats`` at once; return the answers in their order, or why there is none."""

        def one(seat: Seat) -> "_Answer | DriverError":
            try:
                return self.ask(seat, context, call)
            except DriverError as error:
                return error

        return list(self._fan.map(one, seats))
