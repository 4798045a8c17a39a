"""Reading pools that no node serves. The guard of freezes is forked before this imports anything of gRPC."""

import argparse
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

from csi.cli.place import find_place, wanted_pools
from csi.errors import DriverError, NotFoundError, PoolBusyError, StateError
from csi.volumes.node import Node
from csi.volumes.opening import look_at

if TYPE_CHECKING:
    from csi.pb.thinpool.v1 import admin_pb2 as pb


@contextmanager
def idle(options: argparse.Namespace) -> Iterator["Idle"]:
    """Open the wanted pools for reading. A pool that cannot be read is closed, with the reason, like on a node.

    Raise InvalidRequestError for a bad pools file, UnavailableError without root or thin pools, PoolBusyError if a
    node serves a pool, NotFoundError if there is none of the pools.
    """
    specs = wanted_pools(options)
    place = find_place(options)
    with ExitStack() as stack:
        stack.callback(place.freezer.close)
        node = Node(place, specs)
        for spec in specs:
            try:
                pool = stack.enter_context(look_at(spec, place))
            except PoolBusyError as error:
                raise PoolBusyError(
                    "read pool", spec.name, "a node serves it at another endpoint", way_out="name that in --endpoint"
                ) from error
            except DriverError as error:
                node.wanted.closed[spec.name] = error
            else:
                node.wanted.open[pool.id] = pool
        if all(isinstance(node.closed.get(spec.name), NotFoundError) for spec in specs):
            names = ", ".join(node.closed)
            raise NotFoundError("read pool", names, "there is none yet", way_out="'thinpool-csi node' makes it")
        yield Idle(node)


class Idle:
    """Pools that no node serves; see ``csi.cli.client.Source``."""

    served = False

    def __init__(self, node: Node) -> None:
        # Only here: they load gRPC.
        from csi.pb.thinpool.v1 import admin_pb2  # noqa: PLC0415
        from csi.rpc.admin import Admin  # noqa: PLC0415

        self._pb = admin_pb2
        self._admin = Admin(node)
        # The calls stay within the process: there is no context, and Admin asks for none.
        self._context: Any = None

    def node(self) -> "pb.GetNodeResponse":
        """Return the figures of node and pools."""
        return self._admin.GetNode(self._pb.GetNodeRequest(), self._context)

    def devices(self, kind: str) -> "pb.ListDevicesResponse":
        """Return the volumes or snapshots."""
        wanted = self._pb.DEVICE_KIND_VOLUME if kind == "volume" else self._pb.DEVICE_KIND_SNAPSHOT
        return self._admin.ListDevices(self._pb.ListDevicesRequest(kind=wanted), self._context)

    def check(self, *, rebuild: bool, claims: "Sequence[pb.Claim]" = ()) -> "pb.CheckResponse":
        """Compare catalogs and pools. Raise StateError for ``rebuild``: an idle pool is only read."""
        if rebuild:
            raise StateError(
                "rebuild", "the catalog", "no node is running, and idle pools are only read", way_out="start the node"
            )
        return self._admin.Check(self._pb.CheckRequest(claims=claims), self._context)
