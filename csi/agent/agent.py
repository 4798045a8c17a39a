"""The agent: a monitor, a reclaimer and a trimmer for each open pool, and one thread that opens what is closed."""

import random
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

import structlog

from csi.agent.monitor import Monitor
from csi.agent.threads import Threads
from csi.agent.trim import trim
from csi.dm.events import EventWatch
from csi.errors import DriverError
from csi.settings import Trim
from csi.volumes.node import Node
from csi.volumes.pool import Pool
from csi.volumes.reclaim import reclaim

_REOPEN_EVERY: Final = 30.0
_RECLAIM_EVERY: Final = 30.0
_TRIM_EVERY: Final = 24 * 3600.0

if TYPE_CHECKING:
    from csi.model import PoolId

log = structlog.get_logger()


class Agent:
    """Looks after a node's pools from ``start`` to ``stop``. Give ``watch`` to ``Node.open``."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._threads = Threads()
        self._keepers: dict[PoolId, _Keeper] = {}

    def watch(self, pool: Pool) -> None:
        """Look after a pool that was just opened."""
        self._keepers[pool.id] = _Keeper(pool)

    def release(self, pool: Pool) -> None:
        """Close a pool and take it out of the kernel. Raise StateError while a volume is active."""
        # Asked again and again while it is in use: it must be looked after all the time.
        pool.require_no_volumes_active()
        self._end(pool, self._node.wanted.release)

    def remove(self, pool: Pool) -> None:
        """Remove a pool from its disks for good. Raise StateError if it holds anything."""
        self._end(pool, self._node.wanted.remove)

    def _end(self, pool: Pool, end: Callable[[Pool], None]) -> None:
        # Whoever takes a pool apart whose disk hangs is stuck, and with it all that follows the cluster.
        pool.require_answering("end pool", pool.spec.name)
        keeper = self._keepers.pop(pool.id, None)
        if keeper is not None:
            keeper.stop()
        try:
            end(pool)
        except DriverError:
            if pool.id in self._node.pools:
                self.watch(pool)
            raise

    def start(self) -> None:
        """Go on trying to open the pools that are closed."""
        self._threads.run("reopen", self._reopen)

    def stop(self) -> None:
        """End all threads; one that is held up by the kernel for more than 10 s is left behind."""
        self._threads.stop()
        for keeper in list(self._keepers.values()):
            keeper.stop()

    def _reopen(self) -> None:
        while not self._threads.ending.wait(_REOPEN_EVERY):
            if self._node.closed:
                try:
                    self._node.open(self.watch)
                except DriverError as error:
                    log.warning("pool not open", why=str(error))


class _Keeper:
    """The threads of one pool."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._watch = EventWatch()
        self._threads = Threads(self._watch.wake, pool.reclaim_wanted.set)
        monitor = Monitor(pool, self._watch, self._threads.ending)
        self._threads.run(f"monitor {pool.spec.name}", monitor.run)
        self._threads.run(f"reclaim {pool.spec.name}", self._reclaim)
        self._threads.run(f"trim {pool.spec.name}", self._trim)

    def stop(self) -> None:
        self._threads.stop()
        self._watch.close()

    def _reclaim(self) -> None:
        pool = self._pool
        while not self._threads.ending.is_set():
            pool.reclaim_wanted.wait(_RECLAIM_EVERY)
            pool.reclaim_wanted.clear()
            try:
                reclaim(pool, self._threads.ending)
            except DriverError as error:
                log.warning("no space given back", pool=pool.spec.name, why=str(error))

    def _trim(self) -> None:
        # Not all nodes, and not all pools of a node, at one hour.
        pause = random.uniform(0.1, 1.0) * _TRIM_EVERY  # noqa: S311 - spreads load, guards nothing
        while not self._threads.ending.wait(pause):
            pause = _TRIM_EVERY
            if self._pool.spec.trim is Trim.DAILY:
                count = trim(self._pool, self._threads.ending)
                log.info("volumes trimmed", pool=self._pool.spec.name, count=count)
