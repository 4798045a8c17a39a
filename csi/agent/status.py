"""What a node says of a pool in its ThinPoolNode, as the API shows it."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

from csi.kube.api import Object
from csi.units import format_size
from csi.volumes.reports import Capacity, Condition, NodeReport, PoolReport, Severity

READY: Final = "Ready"
DEGRADED: Final = "Degraded"
CONFLICT: Final = "Conflict"
"""Said by the controller, for no node knows of the others."""
_GOOD: Final = "Good"
_MESSAGE: Final = 32768
"""The API's limit for a condition's message."""
_GRAVE: Final = (Severity.DATA_LOSS, Severity.INACCESSIBLE)
# What changes with use alone: told now and then, not at once.
_FIGURES: Final = frozenset(
    {
        *("data", "metadata", "extendable", "capacity", "virtualTotal", "transactionID", "ballast", "minFree"),
        *("volumes", "snapshots", "deferredDeletions", "quarantined", "dataUsedPercent", "metadataUsedPercent"),
    }
)


def status(
    node: NodeReport, pool: PoolReport, capacity: Capacity | None, refused: Mapping[str, str], generation: int
) -> Object:
    """Return the status of an open or closed pool, its conditions and the node's address aside."""
    return {
        "observedGeneration": generation,
        "poolID": pool.pool_id or "",
        "driverVersion": node.version,
        "libraryVersion": node.library_version,
        "mode": pool.mode,
        "poolName": pool.pool_name,
        "devices": list(pool.devices),
        "refusedDevices": [{"device": path, "reason": why} for path, why in sorted(refused.items())],
        "blockSize": pool.block_size,
        "defaultVolumeSize": pool.default_volume_size,
        "dataFile": pool.data_file,
        "metadataFile": pool.metadata_file,
        "dataLoopFile": pool.data_loop_file,
        "metadataLoopFile": pool.metadata_loop_file,
        "backingFilesystem": pool.backing_filesystem,
        "udevSync": pool.udev_sync,
        "data": _space(pool.data_used, pool.data_total),
        "metadata": _space(pool.metadata_used, pool.metadata_total),
        "size": format_size(pool.data_total),
        "dataUsedPercent": _percent(pool.data_used, pool.data_total),
        "metadataUsedPercent": _percent(pool.metadata_used, pool.metadata_total),
        "extendable": pool.extendable,
        "minFree": pool.min_free,
        "capacity": {
            "available": capacity.available if capacity else 0,
            "maximum": capacity.maximum if capacity else 0,
        },
        "overprovisionRatio": f"{pool.overprovision_ratio:g}",
        "virtualTotal": pool.virtual_total,
        "modeKernel": pool.mode_kernel,
        "transactionID": pool.transaction_id,
        "whenFull": pool.when_full,
        "trim": pool.trim,
        "ballast": pool.ballast,
        "volumes": pool.volumes,
        "snapshots": pool.snapshots,
        "templates": pool.templates,
        "deferredDeletions": pool.deferred_deletions,
        "quarantined": pool.quarantined,
    }


def conditions(
    found: Sequence[Condition],
    before: Mapping[str, Object],
    generation: int,
    *,
    served: bool = True,
    now: datetime | None = None,
) -> list[Object]:
    """Return the conditions: Ready and Degraded, and one for each thing that is not as it should be, the gravest first.

    ``served`` tells whether the pool is open. A condition that held ``before`` (by type) with the same status keeps its
    time. What the controller said stays.
    """
    moment = (now or datetime.now(UTC)).strftime("%Y-%m-%dT%H:%M:%SZ")
    if CONFLICT in before:
        found = [Condition(CONFLICT, before[CONFLICT]["message"], Severity.INACCESSIBLE), *found]
    worst = next((each for each in found if each.severity in _GRAVE), None)
    said = worst or next((each for each in found if each.severity is not Severity.INFO), None)
    good = (_GOOD, "")
    trouble = (said.reason, said.message) if said else good
    unready = trouble if served or said or not found else (found[0].reason, found[0].message)
    listed = [
        _condition(READY, holds=served and worst is None, reason=unready[0], message=unready[1]),
        _condition(DEGRADED, holds=said is not None, reason=trouble[0], message=trouble[1]),
    ]
    known = {READY, DEGRADED}
    for each in found:
        if each.reason not in known:
            known.add(each.reason)
            listed.append(
                _condition(each.reason, holds=True, reason=each.severity.title().replace("-", ""), message=each.message)
            )
    for condition in listed:
        old = before.get(condition["type"], {})
        same = old.get("status") == condition["status"]
        known = old.get("lastTransitionTime", moment)
        # The controller's clock may be ahead of ours: what is said later is never of an earlier time.
        condition["lastTransitionTime"] = known if same else max(moment, known)
        condition["observedGeneration"] = generation
    return listed


def is_news(new: Object, old: Mapping[str, Any]) -> bool:
    """Tell whether a status differs from the one that the cluster has in more than figures.

    What conditions say may hold figures too.
    """
    if _said(new.get("conditions")) != _said(old.get("conditions")):
        return True
    return any(new[key] != old.get(key) for key in new if key not in _FIGURES and key != "conditions")


def _said(listed: Sequence[Object] | None) -> list[tuple[str, ...]]:
    return [tuple(str(each.get(key, "")) for key in ("type", "status", "reason")) for each in listed or ()]


def _condition(kind: str, *, holds: bool, reason: str, message: str) -> Object:
    return {"type": kind, "status": str(holds), "reason": reason, "message": message[:_MESSAGE]}


def _space(used: int, total: int) -> Object:
    return {"total": total, "used": used, "available": total - used}


def _percent(used: int, total: int) -> int:
    return used * 100 // total if total else 0
