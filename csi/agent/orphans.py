"""Orphans: volumes and snapshots in the nodes' pools that nothing in the cluster names any more.

They are told of and left alone: what looks forgotten may be what somebody is about to restore from. Where they come
from: an object that was deleted by force or with its finalizer taken away, a cluster restored from an older backup.
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import structlog
from prometheus_client import Gauge

from csi.errors import DriverError
from csi.kube.api import Api, Object
from csi.kube.event import Events
from csi.kube.resources import THIN_POOL_NODES
from csi.model import DRIVER

_LOOK_EVERY: Final = 60.0
_LISTED: Final = 1000
"""The most that a status names; the count tells of all."""
_NAMED: Final = 5
"""The most that an event names."""

log = structlog.get_logger()


@dataclass(frozen=True)
class Held:
    """A volume or snapshot that a node has."""

    handle: str
    kind: str
    """Volume or Snapshot, as the API would call what it belongs to."""
    group: str = ""
    """The group snapshot that it is a member of."""


class Orphans:
    """Compares what the nodes hold with what the cluster names, each time that it is told to look."""

    def __init__(
        self,
        api: Api,
        held: Callable[[str], Iterable[Held]],
        gauge: Gauge,
        grace: timedelta,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        """``held`` lists a node (DriverError if it cannot be asked), ``gauge`` has the labels pool and node.

        One that has had no object for ``grace`` is an orphan: what was just made has none yet.
        """
        self._api = api
        self._events = Events(api, DRIVER)
        self._held = held
        self._gauge = gauge
        self._grace = grace
        self._clock = clock
        self._since: dict[str, datetime] = {}
        """When each was first seen without an object, by handle."""

    @property
    def pause(self) -> float:
        """Seconds from one look to the next."""
        return min(_LOOK_EVERY, self._grace.total_seconds() / 2)

    def look(
        self, pool_nodes: Sequence[Object], named: Callable[[], Collection[str]], ending: Callable[[], bool]
    ) -> None:
        """Ask all nodes, then the cluster (``named``: all handles in it), and tell in ``pool_nodes`` what is left over.

        Of a node that does not answer nothing new is known, and nothing is said. Nor is anything once we are
        ``ending``: a node may take longer to answer than we lead, and by then another controller tells.
        """
        by_node: dict[str, list[Object]] = {}
        for each in pool_nodes:
            if each.get("status", {}).get("poolID") and not each["spec"].get("lost"):
                by_node.setdefault(each["spec"]["nodeName"], []).append(each)
        found: dict[str, list[Held]] = {}
        for node in by_node:
            try:
                found[node] = list(self._held(node))
            except DriverError as error:
                log.debug("not asked for orphans", node=node, why=str(error))
            if ending():
                return
        known = named()
        alone = {each.handle for held in found.values() for each in held if each.handle not in known}
        now = self._clock()
        unasked = tuple(
            each["status"]["poolID"] for node, each_of in by_node.items() if node not in found for each in each_of
        )
        kept = {handle: at for handle, at in self._since.items() if handle in alone or handle.startswith(unasked)}
        self._since = {**dict.fromkeys(alone, now), **kept}
        for node, held in found.items():
            for each in by_node[node]:
                if ending():
                    return
                self._tell(each, [one for one in held if one.handle.startswith(each["status"]["poolID"])], now)

    def forget(self) -> None:
        """Tell of no figures any more: another controller does."""
        self._gauge.clear()
        self._since.clear()

    def _tell(self, pool_node: Object, held: Sequence[Held], now: datetime) -> None:
        told = {each["handle"]: each for each in pool_node["status"].get("orphans") or []}
        # One that was told of before, perhaps by another controller, is not given a new time.
        since = {
            each: told[each.handle]["since"] if each.handle in told else _text(self._since[each.handle])
            for each in held
            if each.handle in self._since and (each.handle in told or now - self._since[each.handle] >= self._grace)
        }
        listed = [_entry(each, at) for each, at in sorted(since.items(), key=lambda pair: pair[0].handle)]
        self._gauge.labels(pool_node["spec"]["poolName"], pool_node["spec"]["nodeName"]).set(len(listed))
        status = {"orphans": listed[:_LISTED], "orphanCount": len(listed)}
        before = pool_node["status"]
        if status == {"orphans": before.get("orphans") or [], "orphanCount": before.get("orphanCount", 0)}:
            return
        name = pool_node["metadata"]["name"]
        try:
            self._api.patch(THIN_POOL_NODES, name, {"status": status}, subresource="status")
        except DriverError as error:
            log.warning("orphans not told of", object=name, why=str(error))
            return
        new = [each.handle for each in since if each.handle not in told]
        if new:
            more = f" and {len(new) - _NAMED} more" if len(new) > _NAMED else ""
            note = (
                f"no object of the cluster names {', '.join(sorted(new)[:_NAMED])}{more}:"
                " 'thinpool-csi orphans' lists and removes them"
            )
            log.warning("orphans", object=name, count=len(listed), new=new[:_NAMED])
            self._events.write(pool_node, "OrphansFound", note, action="Compare", warning=True)


def reported(pool_nodes: Iterable[Mapping[str, Any]]) -> list[dict[str, str]]:
    """Return what the ThinPoolNodes tell of, with pool and node, by handle."""
    found = [
        {**each, "pool": pool_node["spec"]["poolName"], "node": pool_node["spec"]["nodeName"]}
        for pool_node in pool_nodes
        for each in pool_node.get("status", {}).get("orphans") or []
    ]
    return sorted(found, key=lambda each: each["handle"])


def _entry(held: Held, since: str) -> Object:
    entry = {"handle": held.handle, "kind": held.kind, "since": since}
    return entry | ({"group": held.group} if held.group else {})


def _text(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")
