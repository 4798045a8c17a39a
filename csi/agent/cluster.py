"""A node of a cluster: follows the ThinPools that are wanted on it, and says in its ThinPoolNodes how they are."""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import structlog

from csi import __version__
from csi.agent import status
from csi.agent.agent import Agent
from csi.agent.following import follow
from csi.agent.threads import Threads
from csi.errors import DriverError, InvalidRequestError, PoolBusyError
from csi.kube.api import Api, Object
from csi.kube.event import Events
from csi.kube.resources import THIN_POOL_NODES, THIN_POOLS
from csi.kube.thin_pool import Wanted, conditions, wanted
from csi.kube.watched import Watched
from csi.model import DRIVER
from csi.volumes.node import Node
from csi.volumes.reports import Capacity, Condition, NodeReport, PoolReport, Severity

_LOOK_EVERY: Final = 5.0
_REOPEN_EVERY: Final = 30.0
_FIGURES_EVERY: Final = 30.0

log = structlog.get_logger()


@dataclass(frozen=True)
class Contact:
    """How the controller reaches this node."""

    address: str
    """``host:port``."""
    certificates: Callable[[], str]
    """The certificates that the node may show now, PEM."""


class Cluster:
    """Follows and reports from a thread of its own, from ``start`` to ``stop``.

    While the API cannot be reached, everything stays as it was wanted last.
    """

    def __init__(self, node: Node, agent: Agent, api: Api, contact: Contact) -> None:
        self._node = node
        self._agent = agent
        self._api = api
        self._contact = contact
        self._events = Events(api, DRIVER, node.name)
        self._changed = threading.Event()
        self._pools = Watched(api, THIN_POOLS, self._changed.set)
        self._mine = Watched(api, THIN_POOL_NODES, self._changed.set, field_selector=f"spec.nodeName={node.name}")
        self._threads = Threads(self._changed.set)
        self._gone: dict[str, str] = {}
        """Pools that were removed, with the UID of the ThinPoolNode that was leaving."""
        self._not_ended: dict[str, str] = {}
        """Pools that should go and are in use, and what was said of it."""
        self._bad: dict[str, DriverError] = {}
        """Pools whose ThinPool asks for what cannot be, by name."""
        self._reopen_at = 0.0
        self._told_at: dict[str, float] = {}

    def start(self) -> None:
        """Begin to watch."""
        self._pools.start()
        self._mine.start()
        self._threads.run("cluster", self._run)

    def stop(self) -> None:
        """End; the pools stay as they are."""
        self._pools.stop()
        self._mine.stop()
        self._threads.stop()

    def synced(self) -> bool:
        """Tell whether the cluster has said what it wants."""
        return self._pools.synced.is_set() and self._mine.synced.is_set()

    def _run(self) -> None:
        while not self._threads.ending.is_set():
            news = self._changed.wait(_LOOK_EVERY)
            self._changed.clear()
            if self._threads.ending.is_set():
                return
            if self.synced():
                self._follow(reopen=news)
                self._report()

    # -- what is wanted -----------------------------------------------------------------------------------------

    def _wanted(self) -> list[Wanted]:
        found = []
        self._bad = {}
        for mine in self._mine.objects():
            name = mine["spec"]["poolName"]
            pool = self._pools.get(name)
            if pool is None:
                # Its ThinPool is not seen yet, or no more: what is open stays so.
                opened = self._node.wanted.by_name(name)
                if opened is not None:
                    found.append(Wanted(opened.spec, 0, leaving="deletionTimestamp" in mine["metadata"]))
                continue
            try:
                found.append(wanted(pool, mine))
            except InvalidRequestError as error:
                self._bad[name] = error
                opened = self._node.wanted.by_name(name)
                if opened is not None:
                    found.append(Wanted(opened.spec, 0))
        return found

    def _follow(self, *, reopen: bool) -> None:
        node = self._node
        uids = {each["spec"]["poolName"]: each["metadata"]["uid"] for each in self._mine.objects()}
        self._gone = {name: uid for name, uid in self._gone.items() if uids.get(name) == uid}
        empty = {pool.spec.name: pool.empty() for pool in node.pools.values()}
        steps = follow(self._wanted(), empty, self._gone)
        for name in (*steps.release, *steps.remove):
            pool = node.wanted.by_name(name)
            if pool is None:
                continue
            try:
                if name in steps.remove:
                    self._agent.remove(pool)
                    self._gone[name] = uids[name]
                else:
                    self._agent.release(pool)
                self._not_ended.pop(name, None)
            except DriverError as error:
                if self._not_ended.get(name) != str(error):
                    log.warning("pool not ended", pool=name, why=str(error))
                self._not_ended[name] = str(error)
        node.wanted.want(steps.want)
        now = time.monotonic()
        if not node.ready() and (reopen or now >= self._reopen_at):
            self._reopen_at = now + _REOPEN_EVERY
            try:
                node.open(self._agent.watch)
            except PoolBusyError as error:
                # The node that served before us is about to end.
                log.warning("waiting for a pool", why=str(error))
                self._reopen_at = now + _LOOK_EVERY

    # -- what is ------------------------------------------------------------------------------------------------

    def _report(self) -> None:
        node = self._node.report()
        reports = {pool.pool: pool for pool in node.pools}
        for mine in self._mine.objects():
            try:
                self._tell(mine, node, reports.get(mine["spec"]["poolName"]))
            except DriverError as error:
                log.warning("status not written", object=mine["metadata"]["name"], why=str(error))

    def _tell(self, mine: Object, node: NodeReport, report: PoolReport | None) -> None:
        name = mine["spec"]["poolName"]
        old = mine.get("status", {})
        generation = self._generation(name, old)
        found = list(report.conditions) if report else [self._absent(mine, name)]
        if name in self._bad:
            found.insert(0, Condition("InvalidSpec", str(self._bad[name]), Severity.DEGRADED))
        pool = self._node.wanted.by_name(name)
        new: dict[str, Any] = {"poolID": "", "observedGeneration": generation, "driverVersion": __version__}
        if report is not None:
            refused = pool.group.refused if pool else {}
            new = status.status(node, report, self._capacity(name) if pool else None, refused, generation)
            if pool is None:
                # What could not be opened is still the pool that it was.
                new["poolID"] = old.get("poolID", "")
        before = conditions(mine)
        new["conditions"] = status.conditions(found, before, generation)
        new["address"] = self._contact.address
        new["certificate"] = self._contact.certificates()
        now = time.monotonic()
        due = now >= self._told_at.get(name, 0.0) + _FIGURES_EVERY and new != old
        if due or status.is_news(new, old):
            self._api.patch(THIN_POOL_NODES, mine["metadata"]["name"], {"status": new}, subresource="status")
            self._told_at[name] = now
            self._announce(mine, before, new["conditions"], found)

    def _capacity(self, name: str) -> Capacity | None:
        try:
            return self._node.capacity(name)
        except DriverError:
            # Why, the conditions say.
            return None

    def _generation(self, name: str, old: Object) -> int:
        pool = self._pools.get(name)
        return int(pool["metadata"].get("generation", 0)) if pool else int(old.get("observedGeneration", 0))

    def _absent(self, mine: Object, name: str) -> Condition:
        if mine["spec"].get("lost"):
            return Condition("Lost", "it was declared lost: nothing of it is served", Severity.INACCESSIBLE)
        if name in self._gone:
            return Condition("Removed", "it was empty and is removed from its disks", Severity.INACCESSIBLE)
        if self._pools.get(name) is None:
            return Condition("NoThinPool", f"there is no ThinPool {name}", Severity.INACCESSIBLE)
        return Condition("Opening", "the pool is not open yet", Severity.INACCESSIBLE)

    def _announce(self, mine: Object, before: dict[str, Object], after: list[Object], found: list[Condition]) -> None:
        """Write an event for each condition that begins and when the pool gets ready, not at every look."""
        begun = [each for each in found if each.reason not in before and each.severity is not Severity.INFO]
        for each in begun:
            self._events.write(mine, each.reason, each.message, action="Watch", warning=True)
        was_ready = before.get(status.READY, {}).get("status")
        if after[0]["status"] == "True" and was_ready != "True":
            self._events.write(mine, "PoolReady", "the pool is open", action="Open", warning=False)
