"""The pools of a node: those that are wanted, those that are open, and why the others are not."""

from collections.abc import Callable, Iterable

import structlog

from csi.errors import DriverError, InvalidRequestError, PoolBusyError, StateError, UnavailableError
from csi.model import PoolId
from csi.settings import PoolSpec
from csi.volumes.opening import Place, close_pool, deactivate_pool, open_pool, remove_pool
from csi.volumes.pool import Pool

log = structlog.get_logger()


class Pools:
    """What is wanted may change; one thread at a time changes it, any thread may look."""

    def __init__(self, place: Place, specs: Iterable[PoolSpec]) -> None:
        self.open: dict[PoolId, Pool] = {}
        self.closed: dict[str, DriverError] = {}
        """Pools that are wanted and could not be opened, by name, and why."""
        self.specs = {spec.name: spec for spec in specs}
        self._place = place

    def want(self, specs: Iterable[PoolSpec]) -> None:
        """Want these pools from now on; an open one follows its changed fields.

        What is not wanted any more stays open: see ``release`` and ``remove``.
        """
        self.specs = {spec.name: spec for spec in specs}
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
        for spec in self.specs.values():
            if self.by_name(spec.name) is not None:
                continue
            try:
                pool = open_pool(spec, self._place)
            except PoolBusyError:
                raise
            except DriverError as error:
                if str(error) != str(self.closed.get(spec.name, "")):
                    log.warning("pool not open", pool=spec.name, why=str(error))
                self.closed = {**self.closed, spec.name: error}
                continue
            self.closed = {name: error for name, error in self.closed.items() if name != spec.name}
            self.open = {**self.open, pool.id: pool}
            opened(pool)

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

    def get(self, operation: str, pool_id: PoolId, subject: str) -> Pool:
        """Return an open pool by its id. Raise UnavailableError."""
        pool = self.open.get(pool_id)
        if pool is None:
            raise UnavailableError(
                operation, subject, f"pool {pool_id} is not open on this node", way_out="see 'thinpool-csi info'"
            )
        return pool

    def named(self, operation: str, name: str | None, subject: str) -> Pool:
        """Return the open pool of this name; with None, the only one. Raise InvalidRequestError, UnavailableError."""
        if name is None:
            if len(self.specs) != 1:
                raise InvalidRequestError(
                    operation, subject, f"no pool is named and the node has {', '.join(sorted(self.specs)) or 'none'}"
                )
            name = next(iter(self.specs))
        pool = self.by_name(name)
        if pool is not None:
            return pool
        if name in self.closed:
            raise UnavailableError(operation, subject, f"pool {name} is not open: {self.closed[name]}")
        raise InvalidRequestError(
            operation, subject, f"there is no pool {name!r} (there are: {', '.join(sorted(self.specs))})"
        )

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
