"""One pool's monitor: waits for the kernel's event, looks, carries the plan out, and says what has changed."""

import os
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Final

import structlog

from csi.agent.plan import DropBallast, ExtendData, ExtendMetadata, Look, RefillBallast, Step, plan
from csi.dm.events import EventWatch
from csi.dm.targets import PoolMode
from csi.errors import DevicesRefusedError, DriverError, NoSpaceError
from csi.lvm.disks import select
from csi.settings import Mode, PoolSpec
from csi.units import Bytes, format_size
from csi.volumes import health, sentinel
from csi.volumes.opening import resume
from csi.volumes.pool import Pool
from csi.volumes.pulse import DiskPulses

# The event comes at the low-water mark, once; what it does not tell is found by looking now and then.
_LOOK_EVERY: Final = 5.0
_DISKS_EVERY: Final = 30.0
# A freeze ends within 2 s, and most within a tenth of one. On a full pool one that does not is stuck: only space ends
# it, and in time only if it is given well before.
_FREEZE_PATIENCE: Final = 0.5
_REFILL_EVERY: Final = 0.2
# Less than a thread is given to end in; only a write that a full pool holds up takes longer.
_REFILL_ENDS_IN: Final = 8.0
# The event comes for every device that is made or removed, too: a burst of volumes is one look.
_LOOK_AT_MOST_EVERY: Final = 0.25

log = structlog.get_logger()


class Monitor:
    """Watches one pool from a thread of its own, until ``ending`` is set and the watch woken."""

    def __init__(self, pool: Pool, watch: EventWatch, ending: threading.Event) -> None:
        self._pool = pool
        self._watch = watch
        self._ending = ending
        self._said: frozenset[tuple[str, str]] = frozenset()
        self._trouble = ""
        self._extension_stuck = False
        self._filling: threading.Thread | None = None
        self._dropped = threading.Event()
        """Set when the ballast was dropped that is being filled."""
        self._seen: PoolSpec | None = None
        self._new_disks = DiskPulses()
        self._look_for_disks_at = 0.0

    def run(self) -> None:
        """Look and act until the end; nothing of the monitor touches the pool afterwards."""
        try:
            self._run()
        finally:
            if self._filling is not None:
                self._filling.join(_REFILL_ENDS_IN)

    def _run(self) -> None:
        pause = 0.0
        while not self._ending.is_set():
            if self._watch.wait(pause):
                self._ending.wait(_LOOK_AT_MOST_EVERY)
            if self._ending.is_set():
                return
            try:
                pause = self.look()
                self._trouble = ""
            except DriverError as error:
                if str(error) != self._trouble:
                    self._trouble = str(error)
                    log.error("pool not looked after", pool=self._pool.spec.name, why=self._trouble)  # noqa: TRY400 - one line, no traceback
                pause = _LOOK_EVERY

    def look(self) -> float:
        """Look once and do what the plan says; return the seconds until the next look. Raise DriverError."""
        pool = self._pool
        failed: list[DriverError] = []

        def tried(do: Callable[[], None]) -> None:
            # What fails is told of in the end, and keeps nothing from being done that may save the pool.
            try:
                do()
            except DriverError as error:
                failed.append(error)

        # No LVM is at work on the pool but what this thread runs.
        tried(lambda: resume(pool.spec, pool.group, pool.thin))
        tried(self._take_disks)
        status = pool.thin.status()
        ballast = sentinel.ballast(pool)
        full = status.mode is PoolMode.OUT_OF_DATA_SPACE
        look = Look(
            mode=status.mode,
            needs_check=status.needs_check,
            space=pool.space(status),
            block_size=pool.block_size,
            ballast=ballast,
            ballast_wanted=sentinel.ballast_size(pool),
            # Where there is no ballast to give, or no need of it yet, the extension is tried again at each look.
            freeze_stuck=self._extension_stuck and full and ballast > 0,
        )
        steps = plan(look, pool.spec.autoextend, pool.spec.min_free_space_percent)
        for step in steps:
            tried(partial(self._carry_out, step))
        tried(self._set_when_full)
        self._tell()
        if failed:
            raise failed[0]
        if any(isinstance(step, RefillBallast) for step in steps):
            return _REFILL_EVERY
        # After an extension the event must be armed against the new low-water mark: look again at once.
        return 0.0 if steps else _LOOK_EVERY

    def _set_when_full(self) -> None:
        """Tell LVM what is to be done when the pool is full; at a later look if a freeze is under way.

        LVM suspends the pool for that, which waits for the freeze, which on a full pool waits for what we do.
        """
        pool = self._pool
        if pool.freezing.acquire(blocking=False):
            try:
                pool.group.set_when_full(pool.spec.when_full)
            finally:
                pool.freezing.release()

    def _take_disks(self) -> None:
        """Add the disks that the pool's devices name and that are not in it yet; remember why others are left alone."""
        pool = self._pool
        now = time.monotonic()
        if pool.spec.mode is not Mode.DIRECT or (pool.spec == self._seen and now < self._look_for_disks_at):
            return
        self._seen, self._look_for_disks_at = pool.spec, now + _DISKS_EVERY
        paths = [path for path in select(pool.spec) if os.path.realpath(path) not in pool.group.devices]
        known, refused = pool.group.refused, {}
        for path in paths:
            try:
                # Whoever looks at a disk that hangs is stuck: not this thread.
                if self._new_disks.hang(path):
                    refused[path] = "it does not answer"
                else:
                    pool.group.add_devices([path])
                    log.info("disk added to the pool", pool=pool.spec.name, disk=path)
            except DevicesRefusedError as error:
                refused[path] = error.why.removeprefix(f"{path}: ")
            if path in refused and path not in known:
                log.warning("disk left alone", pool=pool.spec.name, disk=path, why=refused[path])
        pool.group.refused = refused

    def _carry_out(self, step: Step) -> None:
        pool = self._pool
        if isinstance(step, DropBallast):
            self._dropped.set()
            freed = sentinel.drop(pool)
            self._extension_stuck = False
            log.warning("pool is full: ballast given to it", pool=pool.spec.name, freed=format_size(freed))
        elif isinstance(step, RefillBallast):
            self._refill(step.step)
        else:
            self._extend(step)

    def _refill(self, step: Bytes) -> None:
        """Refill in a thread of its own: if the pool is filled meanwhile, the write waits for what we are to extend."""
        if self._filling is None or not self._filling.is_alive():
            name = f"ballast {self._pool.spec.name}"
            self._dropped = threading.Event()
            self._filling = threading.Thread(
                target=self._refill_now, args=(step, self._dropped), name=name, daemon=True
            )
            self._filling.start()

    def _refill_now(self, step: Bytes, dropped: threading.Event) -> None:
        try:
            sentinel.refill(self._pool, step, lambda: self._ending.is_set() or dropped.is_set())
        except DriverError as error:
            log.warning("ballast not refilled", pool=self._pool.spec.name, why=str(error))

    def _extend(self, step: ExtendData | ExtendMetadata) -> None:
        pool = self._pool
        what = "data" if isinstance(step, ExtendData) else "metadata"
        self._extension_stuck = True
        if not pool.freezing.acquire(timeout=_FREEZE_PATIENCE):
            log.warning("extension waits for a freeze", pool=pool.spec.name)
            return
        try:
            before = pool.thin.status()
            if isinstance(step, ExtendData):
                pool.group.extend_data(step.step)
            else:
                pool.group.extend_metadata(step.step)
        finally:
            pool.freezing.release()
        after = pool.thin.status()
        # LVM answers OK for a pool that does not take the extension: only the kernel's own totals count.
        totals = (
            (before.data_total, after.data_total) if what == "data" else (before.metadata_total, after.metadata_total)
        )
        if totals[1] <= totals[0]:
            operation = f"extend {what}"
            raise NoSpaceError(operation, pool.spec.name, "LVM answered OK and the kernel's total did not grow")
        self._extension_stuck = False
        log.info("pool extended", pool=pool.spec.name, what=what, blocks_before=totals[0], blocks_after=totals[1])

    def _tell(self) -> None:
        """Log each condition when it begins and when it ends, not at every look."""
        now = {(each.reason, each.severity.value): each for each in health.pool_conditions(self._pool)}
        for key in now.keys() - self._said:
            log.warning("condition begins", pool=self._pool.spec.name, reason=key[0], why=now[key].message)
        for key in self._said - now.keys():
            log.info("condition ends", pool=self._pool.spec.name, reason=key[0])
        self._said = frozenset(now)
