"""What a ThinPoolNode says while its node cannot: a pure function of what the cluster has."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Final

from csi.agent.status import READY
from csi.kube.api import Object

_FORGOTTEN: Final = timedelta(minutes=5)
"""A node that is no longer known at all may still have its plugin for a while."""
_FORMAT: Final = "%Y-%m-%dT%H:%M:%SZ"


def away(pool_nodes: Sequence[Object], nodes: Mapping[str, Object], now: datetime) -> dict[str, list[Object]]:
    """Return the conditions, by ThinPoolNode, of those that say Ready or not though nobody hears their node any more.

    Ready becomes Unknown, once for each time that the node goes away: what the node itself says later stands.
    """
    changed = {}
    for each in pool_nodes:
        node = each["spec"]["nodeName"]
        listed: list[Object] = each.get("status", {}).get("conditions", [])
        ready = next((condition for condition in listed if condition["type"] == READY), None)
        if ready is None or ready["status"] == "Unknown" or each["spec"].get("lost"):
            continue
        reason = _why(nodes.get(node), _time(ready["lastTransitionTime"]), now)
        if reason:
            unknown = {
                **ready,
                "status": "Unknown",
                "reason": reason,
                "message": f"what is said here is of before node {node} went away; if it never comes back, have "
                "spec.lost say so",
                "lastTransitionTime": now.strftime(_FORMAT),
            }
            changed[each["metadata"]["name"]] = [unknown, *(other for other in listed if other is not ready)]
    return changed


def _why(node: Object | None, said: datetime, now: datetime) -> str:
    """Return why what was ``said`` counts no more, "" if it does."""
    if node is None:
        return "NodeUnknown" if now - said > _FORGOTTEN else ""
    for condition in node.get("status", {}).get("conditions", []):
        if condition["type"] == READY and condition["status"] != "True":
            return "NodeNotReady" if _time(condition["lastTransitionTime"]) > said else ""
    return ""


def _time(text: str) -> datetime:
    return datetime.strptime(text, _FORMAT).replace(tzinfo=UTC)
