"""Which ThinPoolNodes there should be: a pure function of what the cluster has."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from csi.kube.api import Object
from csi.kube.thin_pool import Removal

POOL_FINALIZER: Final = "thinpool-csi.dev/nodes"
"""On a ThinPool: its ThinPoolNodes go first, and read it until then."""
NODE_FINALIZER: Final = "thinpool-csi.dev/volumes"
"""On a ThinPoolNode: as long as volumes or snapshots of the cluster are in its pool."""

_NAMED: Final = 5
"""The most ThinPoolNodes that a message names."""


@dataclass
class Placing:
    """What to do."""

    create: list[Object] = field(default_factory=list)
    """ThinPoolNodes."""
    delete: list[str] = field(default_factory=list)
    """ThinPoolNodes, by name; each goes when its finalizer is dropped."""
    let_go: list[str] = field(default_factory=list)
    """ThinPoolNodes whose finalizer may be dropped."""
    hold: list[str] = field(default_factory=list)
    """ThinPools that need their finalizer."""
    let_pool_go: list[str] = field(default_factory=list)
    """ThinPools whose finalizer may be dropped."""
    statuses: dict[str, Object] = field(default_factory=dict)
    """The status of each ThinPool whose status is another."""
    conflicts: dict[str, list[str]] = field(default_factory=dict)
    """Pool ids that several ThinPoolNodes claim, with their names."""


def place(
    pools: Sequence[Object],
    pool_nodes: Sequence[Object],
    nodes: Mapping[str, Mapping[str, str]],
    drivers: Collection[str],
    used: Collection[str],
    now: datetime,
) -> Placing:
    """Return what to do.

    ``nodes`` are the labels of all nodes of the cluster, ``drivers`` those nodes on which the driver is registered,
    ``used`` the ids of pools that the cluster has volumes or snapshots in. A node that is gone, or whose driver is away
    for a moment, keeps its ThinPoolNodes: its disks may come back.
    """
    done = Placing()
    by_name = {pool["metadata"]["name"]: pool for pool in pools}
    there = {(each["spec"]["poolName"], each["spec"]["nodeName"]) for each in pool_nodes}
    for name, pool in by_name.items():
        held = POOL_FINALIZER in pool["metadata"].get("finalizers", [])
        if _leaving(pool):
            if held and not any(each["spec"]["poolName"] == name for each in pool_nodes):
                done.let_pool_go.append(name)
            continue
        if not held:
            done.hold.append(name)
        wanted = [node for node in sorted(drivers) if node in nodes and _selected(pool, nodes[node])]
        done.create += [_pool_node(pool, node) for node in wanted if (name, node) not in there]
    claims = _claims(pool_nodes)
    for each in pool_nodes:
        name, owner = each["metadata"]["name"], by_name.get(each["spec"]["poolName"])
        if _leaving(each):
            if _may_go(each, owner, used, claims) and NODE_FINALIZER in each["metadata"].get("finalizers", []):
                done.let_go.append(name)
        elif owner is None or _leaving(owner) or _deselected(owner, nodes.get(each["spec"]["nodeName"])):
            done.delete.append(name)
    done.statuses = _statuses(by_name, pool_nodes, now)
    done.conflicts = {pool_id: sorted(names) for pool_id, names in claims.items() if len(names) > 1}
    return done


def _leaving(each: Object) -> bool:
    return "deletionTimestamp" in each["metadata"]


def _selected(pool: Object, labels: Mapping[str, str]) -> bool:
    selector = pool.get("spec", {}).get("nodeSelector") or {}
    return all(labels.get(key) == value for key, value in selector.items())


def _deselected(pool: Object, labels: Mapping[str, str] | None) -> bool:
    return labels is not None and not _selected(pool, labels)


def _may_go(
    pool_node: Object, pool: Object | None, used: Collection[str], claims: Mapping[str, Collection[str]]
) -> bool:
    pool_id = pool_node.get("status", {}).get("poolID", "")
    # A pool whose disks were moved is another's now, and with it what the cluster has in it.
    moved = set(claims.get(pool_id, ())) - {pool_node["metadata"]["name"]}
    if pool_id in used and not moved:
        return False
    removal = (pool or {}).get("spec", {}).get("removalPolicy", Removal.KEEP)
    # The node takes the id away once it has removed the pool.
    return not pool_id or removal == Removal.KEEP or bool(pool_node["spec"].get("lost"))


def _pool_node(pool: Object, node: str) -> Object:
    metadata = pool["metadata"]
    return {
        "apiVersion": pool["apiVersion"],
        "kind": "ThinPoolNode",
        "metadata": {
            "name": f"{metadata['name']}.{node}",
            "finalizers": [NODE_FINALIZER],
            "ownerReferences": [
                {
                    "apiVersion": pool["apiVersion"],
                    "kind": "ThinPool",
                    "name": metadata["name"],
                    "uid": metadata["uid"],
                    "controller": True,
                }
            ],
        },
        "spec": {"poolName": metadata["name"], "nodeName": node},
    }


def _statuses(pools: Mapping[str, Object], pool_nodes: Sequence[Object], now: datetime) -> dict[str, Object]:
    changed = {}
    for name, pool in pools.items():
        before: Mapping[str, Any] = pool.get("status", {})
        mine = [each for each in pool_nodes if each["spec"]["poolName"] == name]
        ready = sum(_says(each, "status", "True") for each in mine)
        # A node that has no such disks is not waited for.
        awaited = [each for each in mine if not _says(each, "reason", "NoDevices")]
        unready = sorted(each["metadata"]["name"] for each in awaited if not _says(each, "status", "True"))
        status = {
            "nodes": len(mine),
            "ready": ready,
            "conditions": [_ready(ready, unready, before.get("conditions") or [], now)],
        }
        if any(before.get(key) != value for key, value in status.items()):
            changed[name] = status
    return changed


def _ready(ready: int, unready: Sequence[str], before: Sequence[Object], now: datetime) -> Object:
    """Return the condition that says whether the pool can be used wherever it is wanted."""
    holds = str(bool(ready) and not unready)
    if unready:
        more = f" and {len(unready) - _NAMED} more" if len(unready) > _NAMED else ""
        reason, message = "NodesNotReady", f"see ThinPoolNode {', '.join(unready[:_NAMED])}{more}"
    else:
        reason, message = ("AllNodesReady", "") if ready else ("NoNodes", "no node that is selected has its disks")
    same = next((each for each in before if each["type"] == "Ready" and each["status"] == holds), {})
    moment = same.get("lastTransitionTime") or now.strftime("%Y-%m-%dT%H:%M:%SZ")
    return {"type": "Ready", "status": holds, "reason": reason, "message": message, "lastTransitionTime": moment}


def _says(pool_node: Object, field: str, value: str) -> bool:
    """Tell whether its condition Ready has this status, or this reason."""
    listed = pool_node.get("status", {}).get("conditions", [])
    return any(each["type"] == "Ready" and each[field] == value for each in listed)


def _claims(pool_nodes: Sequence[Object]) -> dict[str, list[str]]:
    """Return the ThinPoolNodes that claim each pool id; one that was given up claims nothing."""
    claims: dict[str, list[str]] = {}
    for each in pool_nodes:
        pool_id = each.get("status", {}).get("poolID", "")
        if pool_id and not each["spec"].get("lost"):
            claims.setdefault(pool_id, []).append(each["metadata"]["name"])
    return claims
