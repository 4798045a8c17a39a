"""The pools of a cluster as the router sees them: which node has which, how it is reached, and what was given up."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from csi.errors import StateError, UnavailableError
from csi.model import PoolId, is_pool_id

_WAY_OUT = "look at 'kubectl get thinpoolnodes'"


@dataclass(frozen=True)
class Seat:
    """One pool on one node: a ThinPoolNode."""

    name: str
    node: str
    pool: str
    """The ThinPool's name."""
    pool_id: PoolId | None
    """None before the pool was made."""
    address: str
    certificate: str
    lost: bool
    leaving: bool
    available: int
    """What could be created in it when it was last heard of, in bytes."""

    @classmethod
    def of(cls, thin_pool_node: Mapping[str, Any]) -> "Seat":
        """Return the seat of a ThinPoolNode."""
        metadata, spec = thin_pool_node["metadata"], thin_pool_node["spec"]
        status = thin_pool_node.get("status", {})
        pool_id = status.get("poolID", "")
        return cls(
            name=metadata["name"],
            node=spec["nodeName"],
            pool=spec["poolName"],
            pool_id=PoolId(pool_id) if is_pool_id(pool_id) else None,
            address=status.get("address", ""),
            certificate=status.get("certificate", ""),
            lost=bool(spec.get("lost", False)),
            leaving="deletionTimestamp" in metadata,
            available=int(status.get("capacity", {}).get("available", 0)),
        )


def disputed(seats: Iterable[Seat]) -> frozenset[PoolId]:
    """Return the pool ids that several seats claim: which of them has the pool is not known."""
    claims = Counter(seat.pool_id for seat in seats if not seat.lost and seat.pool_id is not None)
    return frozenset(pool_id for pool_id, count in claims.items() if count > 1)


class LostError(StateError):
    """The pool was declared lost: what was in it is gone."""


class Fleet:
    """All seats, as they are at each call."""

    def __init__(self, objects: Callable[[], Iterable[Mapping[str, Any]]]) -> None:
        self._objects = objects

    def seats(self) -> list[Seat]:
        """Return all seats, by name."""
        return sorted((Seat.of(each) for each in self._objects()), key=lambda seat: seat.name)

    def nodes(self) -> list[Seat]:
        """Return one seat of each node that has a pool which was not given up."""
        found: dict[str, Seat] = {}
        for seat in self.seats():
            if not seat.lost and seat.pool_id is not None:
                found.setdefault(seat.node, seat)
        return list(found.values())

    def owner(self, operation: str, pool_id: PoolId, subject: str) -> Seat:
        """Return the seat of a pool.

        Raise UnavailableError if no node is known to have it, or several claim it; LostError if it was given up.
        """
        claiming = [seat for seat in self.seats() if seat.pool_id == pool_id]
        # Given up by one node, it may have been adopted by another, where its disks are now.
        found = [seat for seat in claiming if not seat.lost] or claiming[:1]
        if not found:
            raise UnavailableError(operation, subject, f"no node is known to have pool {pool_id}", way_out=_WAY_OUT)
        if len(found) > 1:
            names = " and ".join(seat.node for seat in found)
            raise UnavailableError(operation, subject, f"{names} both claim pool {pool_id}", way_out=_WAY_OUT)
        if found[0].lost:
            raise LostError(operation, subject, f"pool {pool_id} of node {found[0].node} was declared lost")
        return found[0]
