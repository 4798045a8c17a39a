"""The agent's threads: a monitor, a reclaimer and a trimmer for each open pool, and one that opens what is closed."""

import random
import threading
from collections.abc import Callable
from typing import Final

import structlog

from csi.agent.monitor import Monitor
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
_AFTER_FAULT: Final = 10.0
_JOIN: Final = 10.0

log = structlog.get_logger()


class Agent:
    """Looks after a node's pools from ``start`` to ``stop``. Give ``watch`` to ``Node.open``."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._stop = threading.Event()
        self._wakers: list[Callable[[], None]] = []
        self._watches: list[EventWatch] = []
        self._threads: list[threading.Thread] = []

    def watch(self, pool: Pool) -> None:
        """Look after a pool that was just opened."""
        watch = EventWatch()
        self._watches.append(watch)
        self._wakers += [watch.wake, pool.reclaim_wanted.set]
        self._run(f"monitor {pool.spec.name}", lambda: Monitor(pool, watch).run(self._stop))
        self._run(f"reclaim {pool.spec.name}", lambda: self._reclaim(pool))
        if pool.spec.trim is Trim.DAILY:
            self._run(f"trim {pool.spec.name}", lambda: self._trim(pool))

    def start(self) -> None:
        """Go on trying to open the pools that are closed."""
        self._run("reopen", self._reopen)

    def stop(self) -> None:
        """End all threads; one that is held up by the kernel for more than 10 s is left behind."""
        self._stop.set()
        for wake in self._wakers:
            wake()
        for thread in self._threads:
            thread.join(_JOIN)
            if thread.is_alive():
                log.warning("thread did not end", thread=thread.name)
        for watch in self._watches:
            watch.close()

    def _run(self, name: str, body: Callable[[], None]) -> None:
        thread = threading.Thread(target=self._guarded(name, body), name=name, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _guarded(self, name: str, body: Callable[[], None]) -> Callable[[], None]:
        def run() -> None:
            while True:
                try:
                    body()
                except Exception:
                    # A fault of ours; a pool that nobody looks after any more would be a worse one.
                    log.exception("thread broken off by a fault, goes on", thread=name)
                    if not self._stop.wait(_AFTER_FAULT):
                        continue
                return

        return run

    def _reclaim(self, pool: Pool) -> None:
        while not self._stop.is_set():
            pool.reclaim_wanted.wait(_RECLAIM_EVERY)
            pool.reclaim_wanted.clear()
            try:
                reclaim(pool, self._stop)
            except DriverError as error:
                log.warning("no space given back", pool=pool.spec.name, why=str(error))

    def _trim(self, pool: Pool) -> None:
        # Not all nodes, and not all pools of a node, at one hour.
        pause = random.uniform(0.1, 1.0) * _TRIM_EVERY  # noqa: S311 - spreads load, guards nothing
        while not self._stop.wait(pause):
            pause = _TRIM_EVERY
            log.info("volumes trimmed", pool=pool.spec.name, count=trim(pool, self._stop))

    def _reopen(self) -> None:
        while not self._stop.wait(_REOPEN_EVERY):
            if self._node.closed:
                try:
                    self._node.open(self.watch)
                except DriverError as error:
                    log.warning("pool not open", why=str(error))
