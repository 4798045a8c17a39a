"""A node of a cluster: follows the ThinPools that are wanted on it, and says in its ThinPoolNodes how they are."""

import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Final

import structlog

from csi import __version__
from csi.agent import status
from csi.agent.agent import Agent
from csi.agent.following import Following, follow
from csi.agent.memory import Memory
from csi.agent.threads import Threads
from csi.errors import DriverError, InvalidRequestError, PoolBusyError, PoolGoneError, UnavailableError
from csi.kube.api import Api, Object
from csi.kube.event import Events
from csi.kube.resources import THIN_POOL_NODES, THIN_POOLS
from csi.kube.thin_pool import Wanted, conditions, pool_id, wanted
from csi.kube.watched import Watched
from csi.model import DRIVER
from csi.settings import PoolSpec
from csi.volumes.node import Node
from csi.volumes.pool import Pool
from csi.volumes.reports import Capacity, Condition, NodeReport, PoolReport, Severity

_LOOK_EVERY: Final = 5.0
_REOPEN_EVERY: Final = 30.0
_FIGURES_EVERY: Final = 30.0
_AWAY: Final = 30.0
"""The longest pause before a status is written again that the API did not take."""
_PATIENCE: Final = 15.0
"""Seconds from the start that the API gets to say what is wanted."""

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

    While the API cannot be reached, everything stays as it was wanted last, over a new start of the plugin too.
    """

    def __init__(self, node: Node, agent: Agent, api: Api, contact: Contact, memory: Memory) -> None:
        self._node = node
        self._memory = memory
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
        self._steps: Following | None = None
        """What was done last."""
        self._bad: dict[str, DriverError] = {}
        """Pools whose ThinPool asks for what cannot be, by name."""
        self._reopen_at = 0.0
        self._patience_ends = 0.0
        self._told_at: dict[str, float] = {}
        self._tell_at = 0.0

    def start(self) -> None:
        """Begin to watch."""
        self._patience_ends = time.monotonic() + _PATIENCE
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
            self._changed.wait(_LOOK_EVERY)
            self._changed.clear()
            if self._threads.ending.is_set():
                return
            if self.synced():
                try:
                    self._follow()
                except DriverError as error:
                    # How the pools are must be told all the same, and our certificate with it.
                    log.warning("not followed", why=str(error))
                self._report()
            elif time.monotonic() >= max(self._patience_ends, self._reopen_at):
                self._follow_memory()

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

    def _follow(self) -> None:
        """Do what is wanted. A pool that could not be opened is tried again when that changes, and now and then."""
        node = self._node
        uids = {each["spec"]["poolName"]: each["metadata"]["uid"] for each in self._mine.objects()}
        self._gone = {name: uid for name, uid in self._gone.items() if uids.get(name) == uid}
        empty = {pool.spec.name: _empty(pool) for pool in node.pools.values()}
        steps = follow(self._wanted(), empty, self._gone)
        reopen, self._steps = steps != self._steps, steps
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
        known = {each["spec"]["poolName"]: pool_id(each) for each in self._mine.objects()}
        node.wanted.want([self._without_served(spec) for spec in steps.want], known)
        if not node.ready() and (reopen or time.monotonic() >= self._reopen_at):
            self._open()
        known |= {pool.spec.name: str(pool.id) for pool in node.pools.values()}
        self._memory.keep(
            {each["metadata"]["name"]: each for each in self._pools.objects()}, self._mine.objects(), known
        )

    def _open(self) -> None:
        self._reopen_at = time.monotonic() + _REOPEN_EVERY
        try:
            self._node.open(self._agent.watch)
        except PoolBusyError as error:
            # The node that served before us is about to end.
            log.warning("waiting for a pool", why=str(error))
            self._reopen_at = time.monotonic() + _LOOK_EVERY

    def _follow_memory(self) -> None:
        """Open what was wanted last and was made before, as long as the API does not say what is wanted now."""
        recalled = []
        for pool, mine in self._memory.recall():
            try:
                recalled.append((wanted(pool, mine), pool_id(mine)))
            except InvalidRequestError as error:
                log.warning("not opened from memory", pool=pool["metadata"]["name"], why=str(error))
        served = {each.name: (replace(each.spec, adopt=frozenset()), made) for each, made in recalled if not each.lost}
        self._reopen_at = time.monotonic() + _REOPEN_EVERY
        if served:
            log.warning("the cluster does not answer: what it wanted last is served", pools=sorted(served))
            known = {name: made for name, (_, made) in served.items()}
            self._node.wanted.want([spec for spec, _ in served.values()], known)
            self._open()

    def _without_served(self, spec: PoolSpec) -> PoolSpec:
        """Return ``spec`` without those pools to adopt that another node serves: its disks may be seen by two."""
        if not spec.adopt or self._node.wanted.by_name(spec.name) is not None:
            return spec
        try:
            everywhere, _ = self._api.all(THIN_POOL_NODES)
        except DriverError as error:
            log.warning("nothing is adopted for now", pool=spec.name, why=str(error))
            return replace(spec, adopt=frozenset())
        served = {
            pool_id(each)
            for each in everywhere
            if each["spec"]["nodeName"] != self._node.name
            and conditions(each).get(status.READY, {}).get("status") == "True"
        }
        return replace(spec, adopt=spec.adopt - served)

    # -- what is ------------------------------------------------------------------------------------------------

    def _report(self) -> None:
        if time.monotonic() < self._tell_at:
            return
        node = self._node.report()
        reports = {pool.pool: pool for pool in node.pools}
        for mine in self._mine.objects():
            try:
                self._tell(mine, node, reports.get(mine["spec"]["poolName"]))
            except UnavailableError as error:
                # Half of it by chance, so that not all nodes come back at once.
                pause = _AWAY * random.uniform(0.5, 1.0)  # noqa: S311 - guards nothing
                self._tell_at = time.monotonic() + pause
                log.warning("status not written", object=mine["metadata"]["name"], why=str(error))
                return
            except DriverError as error:
                log.warning("status not written", object=mine["metadata"]["name"], why=str(error))

    def _tell(self, mine: Object, node: NodeReport, report: PoolReport | None) -> None:
        name = mine["spec"]["poolName"]
        old = mine.get("status", {})
        generation = self._generation(name, old)
        found = list(report.conditions) if report else [self._absent(mine, name)]
        if mine["spec"].get("lost") and report is not None:
            said = "it was declared lost and is still in use here: nothing of it is served to the cluster"
            found.insert(0, Condition("Lost", said, Severity.INACCESSIBLE))
        if name in self._bad:
            found.insert(0, Condition("InvalidSpec", str(self._bad[name]), Severity.DEGRADED))
        pool = self._node.wanted.by_name(name)
        # What is not open is still the pool that it was: deletions, and whether another may be made, depend on it.
        known = "" if self._is_gone(mine) else pool_id(mine)
        new: dict[str, Any] = {"poolID": known, "observedGeneration": generation, "driverVersion": __version__}
        if report is not None:
            refused = pool.group.refused if pool else {}
            new = status.status(node, report, self._capacity(name) if pool else None, refused, generation)
            if pool is None:
                new["poolID"] = known
        before = conditions(mine)
        new["conditions"] = status.conditions(found, before, generation, served=pool is not None)
        new["address"] = self._contact.address
        new["certificate"] = self._contact.certificates()
        now = time.monotonic()
        due = now >= self._told_at.get(name, 0.0) + _FIGURES_EVERY and new != old
        if due or status.is_news(new, old):
            self._api.patch(THIN_POOL_NODES, mine["metadata"]["name"], {"status": new}, subresource="status")
            self._told_at[name] = now
            self._announce(mine, before, new["conditions"], found)

    def _is_gone(self, mine: Object) -> bool:
        """Tell whether the pool of a ThinPoolNode that is leaving was removed from its disks."""
        name = mine["spec"]["poolName"]
        leaving = "deletionTimestamp" in mine["metadata"]
        return name in self._gone or (leaving and isinstance(self._node.closed.get(name), PoolGoneError))

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


def _empty(pool: Pool) -> bool:
    """Tell whether a pool is empty; one that does not tell is not."""
    try:
        return pool.empty()
    except DriverError as error:
        log.warning("not known whether the pool is empty", pool=pool.spec.name, why=str(error))
        return False
