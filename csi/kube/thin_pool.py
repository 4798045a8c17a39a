"""ThinPools and ThinPoolNodes as values (their schemas are the chart's custom resource definitions)."""

import enum
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from csi.errors import InvalidRequestError
from csi.kube.api import Object
from csi.settings import PoolSpec, parse_pools

# Fields of a ThinPool that are not the pool's own.
_OTHERS: Final = ("nodeSelector", "removalPolicy")


class Removal(enum.StrEnum):
    """What becomes of a pool that is not wanted any more."""

    KEEP = "keep"
    """It stays on its disks."""
    DELETE = "delete"
    """It is removed from them once it is empty."""


@dataclass(frozen=True)
class Wanted:
    """One pool that the cluster wants on one node."""

    spec: PoolSpec
    generation: int
    """Of the ThinPool: what the status is an answer to."""
    removal: Removal = Removal.KEEP
    leaving: bool = False
    """Whether its ThinPoolNode is being deleted: it is served as long as something is in it."""
    lost: bool = False
    """Whether the administrator gave it up: it is not served."""
    made: bool = False
    """Whether it was made before."""

    @property
    def name(self) -> str:
        """The pool's name."""
        return self.spec.name


def pool_spec(thin_pool: Object) -> PoolSpec:
    """Return what a ThinPool wants. Raise InvalidRequestError for what its schema lets pass and we cannot do."""
    name = thin_pool["metadata"]["name"]
    fields = {key: value for key, value in thin_pool.get("spec", {}).items() if key not in _OTHERS}
    if "deviceSelector" in fields:
        if "devices" in fields:
            why = "devices and deviceSelector exclude each other"
            raise InvalidRequestError("read", f"ThinPool {name}", why)
        fields["devices"] = fields.pop("deviceSelector")
    (spec,) = parse_pools({"pools": [{"name": name, **fields}]}, f"ThinPool {name}")
    return spec


def wanted(thin_pool: Object, thin_pool_node: Object) -> Wanted:
    """Return what both say of the pool on the node. Raise InvalidRequestError as ``pool_spec`` does."""
    return Wanted(
        spec=pool_spec(thin_pool),
        generation=int(thin_pool["metadata"].get("generation", 0)),
        removal=Removal(thin_pool.get("spec", {}).get("removalPolicy", Removal.KEEP)),
        leaving="deletionTimestamp" in thin_pool_node["metadata"],
        lost=bool(thin_pool_node.get("spec", {}).get("lost", False)),
        made=bool(pool_id(thin_pool_node)),
    )


def pool_id(thin_pool_node: Mapping[str, Any]) -> str:
    """Return the id of the pool that a ThinPoolNode tells of, '' if none was made."""
    return str(thin_pool_node.get("status", {}).get("poolID", ""))


def conditions(thin_pool_node: Mapping[str, Any]) -> dict[str, Object]:
    """Return the conditions of a ThinPoolNode by type."""
    return {each["type"]: each for each in thin_pool_node.get("status", {}).get("conditions", [])}
