"""What a node says of a pool in its ThinPoolNode, as the API shows it."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

from csi.kube.api import Object
from csi.units import format_size
from csi.volumes.reports import Capacity, Condition, NodeReport, PoolReport, Severity

READY: Final = "Ready"
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
        "deferredDeletions": pool.deferred_deletions,
        "quarantined": pool.quarantined,
    }


def conditions(
    found: Sequence[Condition], before: Mapping[str, Object], generation: int, *, now: datetime | None = None
) -> list[Object]:
    """Return the conditions: Ready, and one for each thing that is not as it should be, the gravest first.

    A condition that held ``before`` (by type) with the same status keeps its time.
    """
    moment = (now or datetime.now(UTC)).strftime("%Y-%m-%dT%H:%M:%SZ")
    worst = next((each for each in found if each.severity in _GRAVE), None)
    said = worst or next((each for each in found if each.severity is not Severity.INFO), None)
    listed = [
        _condition(
            READY,
            holds=worst is None,
            reason=said.reason if said else _GOOD,
            message=said.message if said else "",
        )
    ]
    known = {READY}
    for each in found:
        if each.reason not in known:
            known.add(each.reason)
            listed.append(
                _condition(each.reason, holds=True, reason=each.severity.title().replace("-", ""), message=each.message)
            )
    for condition in listed:
        old = before.get(condition["type"], {})
        same = old.get("status") == condition["status"]
        condition["lastTransitionTime"] = old.get("lastTransitionTime", moment) if same else moment
        condition["observedGeneration"] = generation
    return listed


def is_news(new: Object, old: Mapping[str, Any]) -> bool:
    """Tell whether a status differs from the one that the cluster has in more than figures."""
    return any(new[key] != old.get(key) for key in new if key not in _FIGURES)


def _condition(kind: str, *, holds: bool, reason: str, message: str) -> Object:
    return {"type": kind, "status": str(holds), "reason": reason, "message": message[:_MESSAGE]}


def _space(used: int, total: int) -> Object:
    return {"total": total, "used": used, "available": total - used}


def _percent(used: int, total: int) -> int:
    return used * 100 // total if total else 0
