"""What a node holds, asked of it as a side-car would."""

from collections.abc import Callable, Iterator
from typing import Final, Protocol, TypeVar

import grpc

from csi.agent.orphans import Held
from csi.errors import UnavailableError
from csi.pb.csi.v1 import csi_pb2 as pb
from csi.pb.csi.v1.csi_pb2_grpc import ControllerStub
from csi.rpc.fleet import Fleet
from csi.rpc.forward import Forwarder

_PAGES: Final = 8192
"""More than all thin ids of a pool need."""


class _Listing(Protocol):
    """One page of a node."""

    next_token: str


_Page = TypeVar("_Page", bound=_Listing)


class Inventory:
    """Lists nodes."""

    def __init__(self, fleet: Fleet, forwarder: Forwarder) -> None:
        self._fleet = fleet
        self._forwarder = forwarder

    def of(self, node: str) -> list[Held]:
        """Return the volumes and snapshots of a node. Raise UnavailableError, ForwardedError."""
        volumes = self._pages(
            node,
            lambda channel, token, limit: ControllerStub(channel).ListVolumes(
                pb.ListVolumesRequest(starting_token=token), timeout=limit
            ),
        )
        snapshots = self._pages(
            node,
            lambda channel, token, limit: ControllerStub(channel).ListSnapshots(
                pb.ListSnapshotsRequest(starting_token=token), timeout=limit
            ),
        )
        return [
            *(Held(each.volume.volume_id, "Volume") for page in volumes for each in page.entries),
            *(
                Held(each.snapshot.snapshot_id, "Snapshot", each.snapshot.group_snapshot_id)
                for page in snapshots
                for each in page.entries
            ),
        ]

    def _pages(self, node: str, call: Callable[[grpc.Channel, str, float], _Page]) -> Iterator[_Page]:
        seat = next((each for each in self._fleet.nodes() if each.node == node), None)
        if seat is None:
            raise UnavailableError("list", f"node {node}", "it has no pool")
        token = ""
        for _ in range(_PAGES):
            page = self._forwarder.ask(seat, None, lambda channel, limit, at=token: call(channel, at, limit))  # type: ignore[misc]
            yield page
            token = page.next_token
            if not token:
                return
        raise UnavailableError("list", f"node {node}", f"it does not end after {_PAGES} pages")
