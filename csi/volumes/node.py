"""The node: all its pools, and the one place where a request finds the pool that serves it.

Everything above (CSI, the command line) talks to this class and knows neither catalogs nor device-mapper.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import islice
from typing import Final

import structlog

from csi import __version__
from csi.errors import (
    DriverError,
    ExistsError,
    InvalidRequestError,
    NotFoundError,
    StateError,
    UnavailableError,
)
from csi.fs.usage import Usage
from csi.model import SENTINEL, Claim, Device, Group, GroupHandle, Handle, Kind, PoolId, State
from csi.settings import PoolSpec
from csi.units import Bytes
from csi.volumes import capacity, ephemeral, figures, group, health, mounts, recovery, snapshot, staging, volume
from csi.volumes.locks import Claims
from csi.volumes.opening import Place, rebuild_catalog
from csi.volumes.pool import Pool
from csi.volumes.pools import Pools
from csi.volumes.reports import Capacity, CheckReport, Condition, Finding, Listing, NodeReport, PoolReport, Severity
from csi.volumes.requests import Access, VolumeRequest

VOLUME_LIMIT: Final = 1000
"""Volumes in use on a node at once. The kernel sets no limit; each is a device with its caches and threads."""

# What the kubelet calls an inline volume: csi- and a SHA-256 (pkg/volume/csi/csi_mounter.go, ``makeVolumeHandle``).
_EPHEMERAL_ID: Final = re.compile(r"csi-[0-9a-f]{64}")

log = structlog.get_logger()


class Node:
    """The pools of one node. Open them with ``open``; every other method may be called from any thread."""

    volume_limit = VOLUME_LIMIT

    def __init__(self, place: Place, specs: Iterable[PoolSpec]) -> None:
        self.name = place.node_name
        self.wanted = Pools(place, specs)
        self._control = place.control
        self._names = Claims()

    # -- pools --------------------------------------------------------------------------------------------------

    @property
    def pools(self) -> Mapping[PoolId, Pool]:
        """The open pools."""
        return self.wanted.open

    @property
    def closed(self) -> Mapping[str, DriverError]:
        """Pools that are wanted and could not be opened, by name, and why."""
        return self.wanted.closed

    def open(self, opened: Callable[[Pool], None] = lambda _pool: None) -> None:
        """Open every pool that is wanted and not open, and tell ``opened`` of each (see ``Pools.open_all``)."""
        self.wanted.open_all(opened)

    def close(self) -> None:
        """Close all pools; volumes stay in use."""
        self.wanted.close()

    def deactivate(self) -> None:
        """Close all pools and take them out of the kernel. Raise StateError while a volume is active."""
        for pool in list(self.pools.values()):
            self.wanted.release(pool)

    def ready(self) -> bool:
        """Tell whether every pool that is wanted is open."""
        return self.wanted.specs.keys() <= {pool.spec.name for pool in self.pools.values()}

    def pool_name(self, pool_id: PoolId) -> str:
        """Return the wanted name of an open pool; '' for one that is not here."""
        pool = self.pools.get(pool_id)
        return pool.spec.name if pool else ""

    # -- volumes ------------------------------------------------------------------------------------------------

    def create_volume(self, request: VolumeRequest) -> Device:
        """Make a volume, or return the one an equal request made (see ``volume.create``)."""
        operation = "create volume"
        with self._names.claim(operation, ("volume", request.name)):
            pool = self._pool_for(operation, request)
            self._require_free(
                operation, request.name, pool, lambda other: other.catalog.named(Kind.VOLUME, request.name)
            )
            return volume.create(pool, request)

    def _pool_for(self, operation: str, request: VolumeRequest) -> Pool:
        if request.source is None:
            return self.wanted.named(operation, request.pool, request.name)
        pool = self.wanted.get(operation, request.source.pool, str(request.source))
        if request.pool is not None and request.pool != pool.spec.name:
            raise InvalidRequestError(
                operation,
                request.name,
                f"its source {request.source} is in pool {pool.spec.name}, {request.pool} was asked for",
                way_out="use a StorageClass of the source's pool",
            )
        return pool

    def delete_volume(self, handle: Handle) -> None:
        """Delete a volume; one that is not there is deleted already. Snapshots and clones of it live on."""
        operation = "delete volume"
        volume.delete(self.wanted.get(operation, handle.pool, str(handle)), [handle], Kind.VOLUME, operation)

    def expand_volume(self, handle: Handle, required: Bytes, limit: Bytes) -> Device:
        """Grow a volume, in use or not (see ``volume.grow``)."""
        return volume.grow(self.wanted.get("expand volume", handle.pool, str(handle)), handle, required, limit)

    def volume(self, handle: Handle) -> Device:
        """Return a volume. Raise NotFoundError."""
        return self._device("get volume", handle, Kind.VOLUME)

    def require_whole(self, operation: str) -> None:
        """See that no pool is missing from a list. Raise UnavailableError: a list is whole or none."""
        missing = self.wanted.missing()
        if missing:
            raise UnavailableError(
                operation, self.name, f"pool {', '.join(missing)} is not open", way_out="see 'thinpool-csi info'"
            )

    def volumes(self, after: Handle | None = None, most: int | None = None) -> list[Device]:
        """Return all volumes by handle, or those above ``after``, up to ``most``."""
        return self._listed(Kind.VOLUME, after, most)

    def published(self, handle: Handle) -> bool:
        """Tell whether the volume is staged or published here."""
        info = self.wanted.get("get volume", handle.pool, str(handle)).device(handle.thin).info()
        return info is not None and bool(mounts.anywhere(info))

    def capacity(self, pool: str | None) -> Capacity:
        """Return what can still be created in the pool, or in all together if there are several and none is named."""
        if pool is None and len(self.wanted.specs) > 1:
            parts = [capacity.capacity(each) for each in self.pools.values() if not each.hanging()]
            total = Bytes(sum(part.available for part in parts))
            return Capacity(total, Bytes(max((part.maximum for part in parts), default=0)), capacity.MINIMUM)
        return capacity.capacity(self.wanted.named("get capacity", pool, ""))

    # -- snapshots ----------------------------------------------------------------------------------------------

    def create_snapshot(self, name: str, source: Handle) -> Device:
        """Cut a snapshot of a volume (see ``snapshot.create``)."""
        operation = "create snapshot"
        with self._names.claim(operation, ("snapshot", name)):
            pool = self.wanted.get(operation, source.pool, str(source))
            self._require_free(operation, name, pool, lambda other: other.catalog.named(Kind.SNAPSHOT, name))
            return snapshot.create(pool, name, source)

    def delete_snapshot(self, handle: Handle) -> None:
        """Delete a snapshot; one that is not there is deleted already. A member goes with its group only.

        Raise InvalidRequestError for a member (CSI: DeleteSnapshot, "Snapshot is part of a group").
        """
        operation = "delete snapshot"
        pool = self.wanted.get(operation, handle.pool, str(handle))
        device = pool.catalog.device(handle.thin)
        if device is not None and device.group is not None:
            raise InvalidRequestError(
                operation,
                str(handle),
                f"it belongs to the group snapshot {GroupHandle(pool.id, device.group)}",
                way_out="delete the group snapshot",
            )
        volume.delete(pool, [handle], Kind.SNAPSHOT, operation)

    def snapshot(self, handle: Handle) -> Device:
        """Return a snapshot. Raise NotFoundError."""
        return self._device("get snapshot", handle, Kind.SNAPSHOT)

    def snapshots(self, after: Handle | None = None, most: int | None = None) -> list[Device]:
        """Return all snapshots by handle, of a group only once all of it is cut; or those above ``after``, likewise."""
        return self._listed(Kind.SNAPSHOT, after, most)

    def create_group(self, name: str, sources: Sequence[Handle]) -> Group:
        """Cut several volumes of one pool at one point in time. Raise StateError, which names those of other pools."""
        operation = "create group snapshot"
        if not sources:
            raise InvalidRequestError(operation, name, "no volume is named")
        first = sources[0].pool
        strangers = [str(source) for source in sources if source.pool != first]
        if strangers:
            raise StateError(
                operation,
                name,
                f"{', '.join(strangers)} are in another pool than {sources[0]}",
                way_out="group volumes of one pool",
            )
        with self._names.claim(operation, ("group", name)):
            pool = self.wanted.get(operation, first, name)
            self._require_free(operation, name, pool, lambda other: (other.catalog.group_named(name) or (None,))[0])
            return group.create(pool, name, sources)

    def delete_group(self, handle: GroupHandle, members: Sequence[Handle]) -> None:
        """Delete a group snapshot with its members."""
        group.delete(self.wanted.get("delete group snapshot", handle.pool, str(handle)), handle, members)

    def group(self, handle: GroupHandle, members: Sequence[Handle] = ()) -> Group:
        """Return a group snapshot. Raise NotFoundError."""
        return group.get(self.wanted.get("get group snapshot", handle.pool, str(handle)), handle, members)

    # -- use on the node ----------------------------------------------------------------------------------------

    def stage(self, handle: Handle, path: str, access: Access) -> None:
        """Activate and mount a volume (see ``staging.stage``)."""
        staging.stage(self.wanted.get("stage volume", handle.pool, str(handle)), handle, path, access)

    def unstage(self, handle: Handle, path: str) -> None:
        """Unmount and deactivate a volume (see ``staging.unstage``)."""
        staging.unstage(self.wanted.get("unstage volume", handle.pool, str(handle)), handle, path)

    def publish(self, handle: Handle, path: str, target: str, access: Access, *, readonly: bool) -> None:
        """Bind a staged volume at ``target`` (see ``staging.publish``)."""
        pool = self.wanted.get("publish volume", handle.pool, str(handle))
        staging.publish(pool, handle, path, target, access, readonly=readonly)

    def unpublish(self, volume_id: str, target: str) -> None:
        """Take a volume away from ``target``; an ephemeral one is deleted with that. Raise NotFoundError."""
        operation = "unpublish volume"
        handle = Handle.parse(volume_id)
        if handle is not None:
            staging.unpublish(self.wanted.get(operation, handle.pool, volume_id), handle, target)
            return
        if not any(ephemeral.unpublish(pool, volume_id, target) for pool in self.pools.values()):
            if not _EPHEMERAL_ID.fullmatch(volume_id):
                raise NotFoundError(operation, volume_id[:200], "no such volume")
            self.wanted.require_all(operation, volume_id)
            for pool in self.pools.values():
                pool.require_open(operation, volume_id)
            for pool in self.pools.values():
                if ephemeral.leave(pool, volume_id, target):
                    return
            for pool in self.pools.values():
                if there := pool.root.mounted(target):
                    why = f"{there.source} is mounted there, not {volume_id}"
                    raise StateError(operation, target, why, way_out="unmount it by hand")
                # Deleted by an earlier call whose answer was lost; what it left of the target is empty.
                pool.root.remove(target)

    def publish_ephemeral(
        self, volume_id: str, target: str, request: VolumeRequest, access: Access, *, readonly: bool
    ) -> None:
        """Make a volume for one pod and mount it at ``target`` (see ``ephemeral.publish``)."""
        operation = "publish ephemeral volume"
        if not _EPHEMERAL_ID.fullmatch(volume_id):
            raise InvalidRequestError(operation, volume_id[:200], "not the id of an inline volume")
        wanted = VolumeRequest(
            name=volume_id,
            required=request.required,
            limit=request.limit,
            pool=request.pool,
            fs_type=request.fs_type,
            mkfs_profile=request.mkfs_profile,
            ephemeral=True,
        )
        use = Access(access.fs_type, mount_flags=access.mount_flags, read_only=access.read_only or readonly)
        ephemeral.publish(self.wanted.named(operation, request.pool, volume_id), target, wanted, use)

    def inline(self, volume_id: str) -> Device:
        """Return the volume made for an inline volume's id. Raise NotFoundError."""
        for pool in self.pools.values():
            device = pool.catalog.named(Kind.VOLUME, volume_id, ephemeral=True)
            if device is not None:
                return device
        raise NotFoundError("get volume", volume_id[:200], "no such volume")

    def expand_fs(self, handle: Handle, path: str, required: Bytes = Bytes(0)) -> Bytes:
        """Let the file system at ``path`` take the volume's size (see ``staging.grow_file_system``)."""
        pool = self.wanted.get("expand file system", handle.pool, str(handle))
        return staging.grow_file_system(pool, handle, path, required)

    def usage(self, handle: Handle, path: str) -> Usage:
        """Return how full the volume at ``path`` is."""
        return staging.volume_usage(self.wanted.get("measure volume", handle.pool, str(handle)), handle, path)

    # -- telling ------------------------------------------------------------------------------------------------

    def volume_health(self, handle: Handle) -> list[Condition]:
        """Return what is wrong with a volume; nothing, if all is well."""
        if hanging := [each for pool in self.pools.values() if pool.id == handle.pool for each in health.hangs(pool)]:
            return hanging
        pool = self.wanted.get("get volume health", handle.pool, str(handle))
        return health.volume_conditions(pool, self.volume(handle))

    def volumes_health(self) -> list[tuple[Device, list[Condition]]]:
        """Return what is wrong with each volume."""
        return [(device, health.volume_conditions(self.pools[device.handle.pool], device)) for device in self.volumes()]

    def storage_health(self) -> list[Condition]:
        """Return what is wrong with the pools."""
        found = [health.closed_condition(error, f"pool {name}: ") for name, error in self.closed.items()]
        for pool in self.pools.values():
            # A node may have several, and these are told of all together.
            about = f"pool {pool.spec.name}: "
            found += [replace(each, message=f"{about}{each.message}") for each in health.pool_conditions(pool)]
        return [each for each in found if each.severity is not Severity.INFO]

    def report(self) -> NodeReport:
        """Return the figures of ``thinpool-csi info``."""
        control = self._control
        targets = control.target_versions()
        closed, opened = self.closed, self.pools
        names = {pool.spec.name for pool in opened.values()}
        return NodeReport(
            node=self.name,
            version=__version__,
            library_version=".".join(map(str, control.version())),
            target_versions={
                name: ".".join(map(str, targets[name])) for name in ("thin-pool", "thin") if name in targets
            },
            deferred_removal=False,
            deferred_deletion=True,
            pools=(
                *map(figures.pool_report, opened.values()),
                *(self._closed_report(name, error) for name, error in closed.items() if name not in names),
            ),
        )

    def _closed_report(self, name: str, error: DriverError) -> PoolReport:
        return figures.closed_report(self.wanted.specs[name], health.closed_condition(error))

    def listing(self, kind: Kind) -> list[Listing]:
        """Return all volumes or snapshots with what they take. Raise DiskHangsError."""
        for pool in self.pools.values():
            pool.require_answering("list", f"{kind}s")
        return [each for pool in self.pools.values() for each in figures.listing(pool, kind)]

    def in_use(self) -> list[Listing]:
        """Return all volumes, and of those that are active what they map."""
        return [each for pool in self.pools.values() if not pool.hanging() for each in figures.in_use(pool)]

    def check(self, *, rebuild: bool = False, claims: Sequence[Claim] = ()) -> CheckReport:
        """Compare catalogs and pools; with ``rebuild`` make each catalog that is behind agree with its pool first.

        What the catalogs do not know then becomes what ``claims`` say.
        """
        found = [Finding(name, "pool", str(error)) for name, error in self.closed.items()]
        answering = []
        for pool in self.pools.values():
            if hanging := pool.hanging():
                found.append(Finding(pool.spec.name, "pool", hanging))
                continue
            answering.append(pool)
            if rebuild and (pool.guard.why or claims):
                for line in rebuild_catalog(pool, claims):
                    log.warning("catalog rebuilt", pool=pool.spec.name, what=line)
            found += recovery.findings(pool)
        return CheckReport(
            pools=len(self.pools),
            devices=sum(len(pool.catalog.devices()) for pool in answering),
            findings=tuple(found),
            thin_check={
                pool.spec.name: "needs-check" if pool.thin.status().needs_check else "ok" for pool in answering
            },
        )

    # -- inside -------------------------------------------------------------------------------------------------

    def _require_free(
        self, operation: str, name: str, pool: Pool, find: Callable[[Pool], Device | Group | None]
    ) -> None:
        """See that no other pool than ``pool`` has what ``find`` looks for by ``name``. Raise ExistsError."""
        for other in self.pools.values():
            # One that hangs is as one that is not open: it keeps nobody from another.
            taken = find(other) if other is not pool and not other.hanging() else None
            if taken is not None:
                raise ExistsError(operation, name, f"the name is taken by {taken.handle} of another pool")

    def _device(self, operation: str, handle: Handle, kind: Kind) -> Device:
        device = self.wanted.get(operation, handle.pool, str(handle)).catalog.device(handle.thin)
        if device is None or device.kind is not kind or device.state is State.DELETING:
            raise self.wanted.get(operation, handle.pool, str(handle)).not_found(operation, handle, str(kind))
        return device

    def _listed(self, kind: Kind, after: Handle | None, most: int | None) -> list[Device]:
        shown = (State.READY, State.LOST)
        for pool in self.pools.values():
            pool.require_answering("list", f"{kind}s")
        found = (
            device
            for pool in sorted(self.pools.values(), key=lambda pool: pool.id)
            if after is None or pool.id >= after.pool
            for device in pool.catalog.each(
                kind=kind, after=after.thin if after is not None and pool.id == after.pool else SENTINEL
            )
            if device.state in shown and not device.ephemeral
        )
        return list(islice(found, most))
