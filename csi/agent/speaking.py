"""What the controller says in ThinPoolNodes, for the nodes that cannot: a pure function of what the cluster has.

A node that is away does not say so, and one that claims the pool of another does not know.
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Final

from csi.agent.status import CONFLICT, READY
from csi.kube.api import Object

_FORGOTTEN: Final = timedelta(minutes=5)
"""A node that is no longer known at all may still have its plugin for a while."""
_FORMAT: Final = "%Y-%m-%dT%H:%M:%SZ"


def speak(
    pool_nodes: Sequence[Object],
    nodes: Mapping[str, Object],
    conflicts: Mapping[str, Sequence[str]],
    now: datetime,
) -> dict[str, list[Object]]:
    """Return the conditions of those ThinPoolNodes, by name, that say something else.

    ``conflicts`` are the ThinPoolNodes that claim one pool id. Of a node that is away Ready becomes Unknown, once for
    each time that it goes: what it says later itself stands.
    """
    changed = {}
    for each in pool_nodes:
        name, listed = each["metadata"]["name"], each.get("status", {}).get("conditions", [])
        pool_id = each.get("status", {}).get("poolID", "")
        claimants = conflicts.get(pool_id, ())
        told = _conflict(listed, pool_id, claimants if name in claimants else (), now)
        if not each["spec"].get("lost"):
            told = _away(told, each["spec"]["nodeName"], nodes, now)
        if told != listed:
            changed[name] = told
    return changed


def _conflict(listed: list[Object], pool_id: str, claimants: Sequence[str], now: datetime) -> list[Object]:
    others = [condition for condition in listed if condition["type"] != CONFLICT]
    if not claimants:
        # The node says anew whether it is ready.
        return others
    known = next((condition for condition in listed if condition["type"] == CONFLICT), {})
    message = (
        f"{' and '.join(claimants)} both claim pool {pool_id}, and nothing is sent to either: take its disks away from"
        " one of the nodes, then have spec.lost of that node's ThinPoolNode say so"
    )
    if known.get("message") == message:
        return listed
    moment = now.strftime(_FORMAT)
    conflict = {
        "type": CONFLICT,
        "status": "True",
        "reason": "PoolClaimedTwice",
        "message": message,
        "lastTransitionTime": moment,
    }
    ready = {**conflict, "type": READY, "status": "False", "reason": CONFLICT}
    return [ready, *(condition for condition in others if condition["type"] != READY), conflict]


def _away(listed: list[Object], node: str, nodes: Mapping[str, Object], now: datetime) -> list[Object]:
    ready = next((condition for condition in listed if condition["type"] == READY), None)
    if ready is None or ready["status"] == "Unknown":
        return listed
    reason, since = _why(nodes.get(node), _time(ready["lastTransitionTime"]), now)
    if not reason:
        return listed
    unknown = {
        **ready,
        "status": "Unknown",
        "reason": reason,
        "message": f"what is said here is of before node {node} went away; if it never comes back, have "
        "spec.lost say so",
        # Whoever's clock is behind: what the node says from now on is later than this.
        "lastTransitionTime": max(now, since).strftime(_FORMAT),
    }
    return [unknown, *(other for other in listed if other is not ready)]


def _why(node: Object | None, said: datetime, now: datetime) -> tuple[str, datetime]:
    """Return why what was ``said`` counts no more, "" if it does, and since when."""
    if node is None:
        return ("NodeUnknown" if now - said > _FORGOTTEN else ""), now
    for condition in node.get("status", {}).get("conditions", []):
        if condition["type"] == READY and condition["status"] != "True":
            since = _time(condition.get("lastTransitionTime"))
            return ("NodeNotReady" if since > said else ""), since
    return "", now


def _time(text: str | None) -> datetime:
    """Return the moment, long ago if it cannot be read: who writes what is not one must not silence us for all."""
    try:
        return datetime.fromisoformat(text or "").astimezone(UTC)
    except (ValueError, OverflowError):
        return datetime.min.replace(tzinfo=UTC)
