"""Asking a node that is running, over its socket."""

from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any, Final, Self, TypeVar

import grpc
from google.protobuf.message import Message

from csi.errors import UnavailableError
from csi.pb.thinpool.v1 import admin_pb2 as pb
from csi.pb.thinpool.v1.admin_pb2_grpc import AdminStub

DEADLINE: Final = 300.0
"""Seconds for an answer. Listing reads all metadata of each pool: 13 s at ten thousand devices."""

_ANSWER: Final = 256 << 20
"""Bytes of an answer. By itself gRPC takes 4 MiB, which is some 28,000 devices; here is room for a million."""

_Answer = TypeVar("_Answer", bound=Message)


class Served:
    """The node that serves at a socket; see ``csi.cli.client.Source``."""

    served = True

    def __init__(self, path: str) -> None:
        self._path = path
        self._channel = grpc.insecure_channel(f"unix:{path}", [("grpc.max_receive_message_length", _ANSWER)])
        self._stub = AdminStub(self._channel)

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the connection."""
        self._channel.close()

    def node(self) -> pb.GetNodeResponse:
        """Return the figures of node and pools."""
        return self._ask(lambda: self._stub.GetNode(pb.GetNodeRequest(), timeout=DEADLINE))

    def devices(self, kind: str) -> pb.ListDevicesResponse:
        """Return the volumes or snapshots."""
        wanted = pb.DEVICE_KIND_VOLUME if kind == "volume" else pb.DEVICE_KIND_SNAPSHOT
        return self._ask(lambda: self._stub.ListDevices(pb.ListDevicesRequest(kind=wanted), timeout=DEADLINE))

    def check(self, *, rebuild: bool, claims: Sequence[pb.Claim] = ()) -> pb.CheckResponse:
        """Compare catalogs and pools; with ``rebuild`` make them agree, and what is claimed what the claims say."""
        return self._ask(lambda: self._stub.Check(pb.CheckRequest(rebuild=rebuild, claims=claims), timeout=DEADLINE))

    def _ask(self, call: Callable[[], _Answer]) -> _Answer:
        try:
            return call()
        except grpc.RpcError as error:
            raise UnavailableError("ask the node at", self._path, explain(error)) from error


def explain(error: Any) -> str:  # noqa: ANN401 - grpc's stubs do not say that a call's RpcError is a Call as well
    """Return the code and the message of a failed call (grpc.RpcError) in one line."""
    return f"{error.code().name}: {error.details()}"
