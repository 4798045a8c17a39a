"""The figures of pools and volumes, as ``thinpool-csi info`` shows them."""

from csi.dm import block, metadata
from csi.errors import DriverError
from csi.fs import mountinfo
from csi.model import Kind, PoolId, State
from csi.settings import PoolSpec
from csi.units import Blocks, Bytes, block_bytes, sector_bytes
from csi.volumes import health, sentinel
from csi.volumes.pool import METADATA_BLOCK, Pool
from csi.volumes.reports import Condition, Listing, PoolReport, Severity


def pool_report(pool: Pool) -> PoolReport:
    """Return one pool in the terms of ``docker info``; of one that does not answer, why."""
    if hanging := health.hangs(pool):
        return closed_report(pool.spec, hanging[0], pool.id)
    try:
        return _pool_report(pool)
    except DriverError as error:
        # One that has failed does not tell its figures, but why.
        missing = Condition("PoolMissing", str(error), Severity.INACCESSIBLE)
        return closed_report(pool.spec, next(iter(health.pool_conditions(pool)), missing), pool.id)


def _pool_report(pool: Pool) -> PoolReport:
    status = pool.thin.status()
    space = pool.space(status)
    counts = pool.catalog.counts()
    group = pool.group
    whole = block_bytes(Blocks(space.data_total + space.extendable), pool.block_size)
    loop_data, loop_metadata = group.loop_data, group.loop_metadata
    table = pool.thin.table
    return PoolReport(
        pool=pool.spec.name,
        pool_id=pool.id,
        mode=pool.spec.mode,
        pool_name=pool.thin.name,
        block_size=pool.block_size,
        default_volume_size=pool.spec.default_volume_size,
        backing_filesystem=_file_system_of(str(loop_data.file)) if loop_data else "",
        udev_sync=False,
        devices=group.devices,
        data_file=block.node(table.data),
        metadata_file=block.node(table.metadata),
        data_loop_file=str(loop_data.file) if loop_data else "",
        metadata_loop_file=str(loop_metadata.file) if loop_metadata else "",
        data_used=block_bytes(space.data_used, pool.block_size),
        data_total=block_bytes(space.data_total, pool.block_size),
        metadata_used=Bytes(space.metadata_used * METADATA_BLOCK),
        metadata_total=Bytes(space.metadata_total * METADATA_BLOCK),
        extendable=block_bytes(space.extendable, pool.block_size),
        min_free=Bytes(whole * pool.spec.min_free_space_percent // 100),
        overprovision_ratio=pool.spec.overprovision_ratio,
        virtual_total=counts.virtual,
        when_full=pool.spec.when_full,
        trim=pool.spec.trim,
        mode_kernel=status.mode,
        transaction_id=status.transaction_id,
        ids_left=pool.catalog.ids_left(),
        ballast=sentinel.ballast(pool),
        volumes=counts.volumes,
        snapshots=counts.snapshots,
        templates=counts.templates,
        deferred_deletions=counts.deleting,
        quarantined=counts.quarantined,
        conditions=tuple(health.pool_conditions(pool)),
    )


def listing(pool: Pool, kind: Kind) -> list[Listing]:
    """Return the pool's volumes or snapshots with what they take; that reads all metadata: seconds in a big pool."""
    try:
        mappings = metadata.mappings(pool.thin)
    except DriverError:
        # A pool that takes no messages (read-only, failed) keeps its figures; the rest is still worth telling.
        mappings = {}
    found = []
    for device in pool.catalog.each(kind=kind):
        if device.state is State.DELETING:
            continue
        mapping = mappings.get(device.handle.thin)
        found.append(
            Listing(
                device=device,
                pool=pool.spec.name,
                mapped=block_bytes(mapping.mapped, pool.block_size) if mapping else None,
                exclusive=block_bytes(mapping.exclusive, pool.block_size) if mapping else None,
                active=pool.device(device.handle.thin).info() is not None,
            )
        )
    return found


def in_use(pool: Pool) -> list[Listing]:
    """Return the pool's volumes, and of those that are active what they map: that costs no look at the metadata."""
    found = []
    for device in pool.catalog.each(kind=Kind.VOLUME):
        if device.state is not State.READY:
            continue
        try:
            status = pool.device(device.handle.thin).status()
        except DriverError:
            # What cannot be told now is left out; why, the pool's conditions say.
            status = None
        mapped = sector_bytes(status.mapped) if status else None
        found.append(Listing(device, pool.spec.name, mapped, exclusive=None, active=status is not None))
    return found


def _file_system_of(path: str) -> str:
    """Return the type of the file system that ``path`` lies on, by the longest mount point above it."""
    above = [mount for mount in mountinfo.mounts() if path.startswith(mount.mount_point.rstrip("/") + "/")]
    return max(above, key=lambda mount: (len(mount.mount_point), mount.id)).fs_type if above else ""


def closed_report(spec: PoolSpec, condition: Condition, pool_id: PoolId | None = None) -> PoolReport:
    """Return what can be said of a pool that could not be opened, or does not answer."""
    none = Bytes(0)
    return PoolReport(
        pool=spec.name,
        pool_id=pool_id,
        mode=spec.mode,
        pool_name="",
        block_size=spec.block_size,
        default_volume_size=spec.default_volume_size,
        backing_filesystem="",
        udev_sync=False,
        devices=spec.devices,
        data_file="",
        metadata_file="",
        data_loop_file="",
        metadata_loop_file="",
        data_used=none,
        data_total=none,
        metadata_used=none,
        metadata_total=none,
        extendable=none,
        min_free=none,
        overprovision_ratio=spec.overprovision_ratio,
        virtual_total=none,
        when_full=spec.when_full,
        trim=spec.trim,
        mode_kernel="",
        transaction_id=0,
        ids_left=0,
        ballast=none,
        volumes=0,
        snapshots=0,
        templates=0,
        deferred_deletions=0,
        quarantined=0,
        conditions=(condition,),
    )
