"""The pools of a node: those that are wanted, those that are open, and why the others are not."""

from collections.abc import Callable, Iterable, Mapping

import structlog

from csi.errors import (
    DevicesRefusedError,
    DiskHangsError,
    DriverError,
    InvalidRequestError,
    PoolBusyError,
    StateError,
    UnavailableError,
)
from csi.lvm.disks import select
from csi.model import PoolId
from csi.settings import Mode, PoolSpec
from csi.volumes.opening import Place, close_pool, deactivate_pool, open_pool, remove_pool
from csi.volumes.pool import LOOK_FOR_DISK, Pool
from csi.volumes.pulse import DiskPulses

log = structlog.get_logger()


class Pools:
    """What is wanted may change; one thread at a time changes it, any thread may look."""

    def __init__(self, place: Place, specs: Iterable[PoolSpec]) -> None:
        self.open: dict[PoolId, Pool] = {}
        self.closed: dict[str, DriverError] = {}
        """Pools that are wanted and could not be opened, by name, and why."""
        self.specs = {spec.name: spec for spec in specs}
        self._told = bool(self.specs)
        """Whether it is known what is wanted; with a cluster it is told after the start."""
        self._known: Mapping[str, str] = {}
        self._place = place
        self._disks = DiskPulses()

    def want(self, specs: Iterable[PoolSpec], known: Mapping[str, str]) -> None:
        """Want these pools from now on; an open one follows its changed fields.

        ``known`` has the ids, by name, of those that are known to be here: no other is made in their place. What is
        not wanted any more stays open: see ``release`` and ``remove``.
        """
        self.specs = {spec.name: spec for spec in specs}
        self._told = True
        self._known = known
        self.closed = {name: error for name, error in self.closed.items() if name in self.specs}
        for pool in self.open.values():
            spec = self.specs.get(pool.spec.name)
            if spec is not None and spec != pool.spec:
                log.info("pool follows its changed fields", pool=spec.name)
                pool.follow(spec)

    def open_all(self, opened: Callable[[Pool], None]) -> None:
        """Open every pool that is wanted and not open, and tell ``opened`` of each.

        Raise PoolBusyError: two processes must not serve one pool. Any other trouble closes only the pool that has it.
        """
        busy: PoolBusyError | None = None
        for spec in self.specs.values():
            if self.by_name(spec.name) is not None:
                continue
            try:
                self._require_disks(spec)
                pool = open_pool(spec, self._place, self._known.get(spec.name, ""))
            except PoolBusyError as error:
                busy = busy or error
                continue
            except DriverError as error:
                if str(error) != str(self.closed.get(spec.name, "")):
                    log.warning("pool not open", pool=spec.name, why=str(error))
                self.closed = {**self.closed, spec.name: error}
                continue
            # In this order: who reads what is closed before what is open never finds it in neither.
            self.open = {**self.open, pool.id: pool}
            self.closed = {name: error for name, error in self.closed.items() if name != spec.name}
            opened(pool)
        if busy is not None:
            raise busy

    def _require_disks(self, spec: PoolSpec) -> None:
        """See that the disks answer, be it with an error: nothing else is done with one that hangs.

        Raise DiskHangsError.
        """
        for path in select(spec) if spec.mode is Mode.DIRECT else ():
            if seconds := self._disks.hang(path):
                why = f"{path} has not answered for {seconds:.0f} s"
                raise DiskHangsError("open pool", spec.name, why, way_out=LOOK_FOR_DISK)

    def close(self) -> None:
        """Close all pools; volumes stay in use."""
        pools, self.open = self.open, {}
        for pool in pools.values():
            close_pool(pool)

    def release(self, pool: Pool) -> None:
        """Close a pool and take it out of the kernel. Raise StateError while a volume is active."""
        self._end(pool, deactivate_pool)

    def remove(self, pool: Pool) -> None:
        """Remove a pool from its disks for good. Raise StateError if it holds anything."""
        self._end(pool, remove_pool)

    def by_name(self, name: str) -> Pool | None:
        """Return the open pool of this name."""
        return next((pool for pool in self.open.values() if pool.spec.name == name), None)

    def missing(self) -> list[str]:
        """Return the names of those that are wanted, were made, and are not open: one that was given up is not."""
        return sorted(name for name in self.specs if self._known.get(name) and self.by_name(name) is None)

    def require_all(self, operation: str, subject: str) -> None:
        """Raise UnavailableError while a volume may be in a pool that is not open, or nobody knows which there are.

        A pool whose disks were refused, or that has none, and that is not known to be here holds nothing.
        """
        self._require_told(operation, subject)
        for name in sorted(self.specs):
            never_made = not self._known.get(name) and isinstance(self.closed.get(name), DevicesRefusedError)
            if self.by_name(name) is None and not never_made:
                raise UnavailableError(operation, subject, f"pool {name} is not open, and it may be there")

    def get(self, operation: str, pool_id: PoolId, subject: str) -> Pool:
        """Return an open pool by its id. Raise UnavailableError, DiskHangsError where it does not answer."""
        pool = self.open.get(pool_id)
        if pool is None:
            raise UnavailableError(
                operation, subject, f"pool {pool_id} is not open on this node", way_out="see 'thinpool-csi info'"
            )
        pool.require_answering(operation, subject)
        return pool

    def named(self, operation: str, name: str | None, subject: str) -> Pool:
        """Return the open pool of this name; with None, the only one. Raise InvalidRequestError, UnavailableError."""
        self._require_told(operation, subject)
        if name is None:
            if len(self.specs) != 1:
                raise InvalidRequestError(
                    operation, subject, f"no pool is named and the node has {', '.join(sorted(self.specs)) or 'none'}"
                )
            name = next(iter(self.specs))
        pool = self.by_name(name)
        if pool is not None:
            pool.require_answering(operation, subject)
            return pool
        if name in self.specs:
            why = self.closed.get(name, "not yet")
            raise UnavailableError(operation, subject, f"pool {name} is not open: {why}")
        raise InvalidRequestError(
            operation, subject, f"there is no pool {name!r} (there are: {', '.join(sorted(self.specs))})"
        )

    def _require_told(self, operation: str, subject: str) -> None:
        if not self._told:
            raise UnavailableError(operation, subject, "which pools are wanted here is not known yet")

    def _end(self, pool: Pool, end: Callable[[Pool], None]) -> None:
        try:
            end(pool)
        except StateError:
            raise
        except DriverError:
            # Half taken apart: opening it again makes it whole.
            close_pool(pool)
            self._forget(pool)
            raise
        self._forget(pool)

    def _forget(self, pool: Pool) -> None:
        self.open = {key: each for key, each in self.open.items() if key != pool.id}
