"""Opening a pool: found or made, activated, locked, its catalog mounted and compared, its sentinel in place."""

import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import structlog

from csi.catalog.database import FILE_NAME
from csi.catalog.store import Catalog
from csi.dm import block, kernel, metadata
from csi.dm.freezer import Freezer
from csi.dm.ioctl import Control
from csi.dm.targets import PoolMode
from csi.dm.thin_device import thaw_all
from csi.dm.thin_pool import ThinPool
from csi.errors import DataLossError, NotFoundError, StateError, UnavailableError
from csi.failpoint import hit
from csi.fs import check, mkfs, mount
from csi.fs.options import Options
from csi.fs.paths import Root
from csi.lvm import layout
from csi.lvm.pool_group import PoolGroup
from csi.model import SENTINEL, Claim, FsType, Kind, State
from csi.settings import Mode, PoolSpec
from csi.volumes import health, recovery, sentinel
from csi.volumes.pool import ENDING, Guard, Pool

_REBUILD: Final = "volumes wait; put the catalog back, or run 'thinpool-csi check --rebuild'"

# In percent. Metadata this full is extended before any message is sent.
_METADATA_FULL: Final = 95

log = structlog.get_logger()


@dataclass(frozen=True)
class Place:
    """Where a node works: its name, its directories, and the kernel's control device."""

    node_name: str
    state_dir: Path
    """Kept over a reboot: loop files, LVM's own settings."""
    run_dir: Path
    """Gone with a reboot: the mounts of catalogs."""
    kubelet_dir: Path
    control: Control
    freezer: Freezer


def open_pool(spec: PoolSpec, place: Place, known: str = "") -> Pool:
    """Open the pool for ``spec``, making it if there is none, and bring what a crash left to an end.

    ``known`` is the id of the pool that is known to be here, '' if none is. Raise PoolBusyError while another process
    serves it, ForeignPoolError, DevicesRefusedError, UnavailableError, CommandError.
    """
    kernel.require_thin_pools(place.control)
    if spec.mode is Mode.LOOP:
        log.warning("pool on loop devices: for development and a first try, not for production", pool=spec.name)
    with ExitStack() as stack:
        # Two locks: this one keeps two processes from making the pool at once, the catalog's from serving it at once.
        stack.enter_context(turn_to_open(spec, place))
        group = PoolGroup.open(spec, place.node_name, place.state_dir, known=known)
        group.activate()
        stack.enter_context(block.exclusive(group.catalog_path))
        # Now that nobody else serves the pool, what is suspended was left so by a process that died. Other pools have
        # freezes of their own under way. (No LVM command waits for our devices: it is shown the pool's disks alone.)
        for name in thaw_all(place.control, group.pool_id):
            log.warning("device found suspended, resumed", device=name)
        thin = _thin_pool(group, place)
        resume(spec, group, thin)
        group.set_when_full(spec.when_full)
        _extend_full_metadata(spec, group, thin)
        if group.catalog_fresh and not thin.status().transaction_id:
            _format_catalog(group)
        directory = mount_catalog(group, place)
        catalog, why = _open_catalog(group, thin, directory)
        stack.callback(catalog.close)
        pool = _pool(spec, place, group, catalog, directory)
        if why:
            pool.guard = Guard(why, _REBUILD)
            log.error("pool takes no changes", pool=spec.name, why=why, way_out=_REBUILD)
        else:
            _adopt(pool)
            recovery.recover(pool)
        sentinel.ensure(pool)
        hit("adopt.after-sentinel")
        pool.held = stack.pop_all()
        log.info("pool open", pool=spec.name, id=pool.id, mode=spec.mode, devices=group.devices)
        return pool


def resume(spec: PoolSpec, group: PoolGroup, thin: ThinPool) -> None:
    """Resume a pool that is suspended: nobody but LVM suspends it, and that LVM was killed. Raise CommandError."""
    if thin.info.suspended:
        group.resume()
        log.warning("pool found suspended, resumed", pool=spec.name)


def close_pool(pool: Pool) -> None:
    """Let go of the pool; its volumes stay active and mounted, for whoever uses them."""
    pool.held.close()


def deactivate_pool(pool: Pool) -> None:
    """Close the pool and take it out of the kernel. Raise StateError, CommandError while volumes are active."""
    for device in pool.catalog.devices(state=State.DELETING):
        # Active if giving back its space was cut short.
        pool.device(device.handle.thin).deactivate()
    pool.require_no_volumes_active()
    _take_out(pool)
    pool.group.deactivate()


def remove_pool(pool: Pool) -> None:
    """Remove the pool from its disks, which are blank afterwards. Cut short, it is a pool again at the next start.

    Raise StateError unless it is provably empty: no volume, no snapshot, nothing that waits for its deletion, nothing
    that the catalog does not know.
    """
    operation, name = "remove pool", pool.spec.name
    pool.require_open(operation, name)
    # Nothing more is let in: what was, is in the catalog now.
    pool.ending = True
    try:
        _require_empty(pool, operation)
    except BaseException:
        pool.ending = False
        raise
    pool.guard = Guard(ENDING, "use another pool")
    log.warning("pool is removed from its disks", pool=name, id=pool.id, devices=pool.group.devices)
    _take_out(pool)
    pool.group.remove()


def _require_empty(pool: Pool, operation: str) -> None:
    rows = pool.catalog.devices()
    # Templates are nobody's.
    templates = {row.handle.thin for row in rows if row.kind is Kind.TEMPLATE}
    left = len(rows) - len(templates)
    present = metadata.thin_ids(pool.thin) - {SENTINEL} - templates
    if left or present:
        most = max(left, len(present))
        why = f"it holds {most} volumes and snapshots (those that wait for their deletion included)"
        raise StateError(operation, pool.spec.name, why, way_out="delete them first")


def _take_out(pool: Pool) -> None:
    close_pool(pool)
    pool.device(SENTINEL).deactivate()
    unmount_catalog(pool.catalog_dir)


@contextmanager
def look_at(spec: PoolSpec, place: Place) -> Iterator[Pool]:
    """Open a pool that no process serves, for reading alone: its catalog is a copy, nothing is recovered or made.

    Raise NotFoundError if there is no pool, PoolBusyError if it is served.
    """
    with ExitStack() as stack:
        stack.enter_context(turn_to_open(spec, place))
        # Another node's pool is for a node to take over, not for a look.
        group = PoolGroup.find(replace(spec, adopt=frozenset()), place.node_name, place.state_dir)
        if group is None:
            raise NotFoundError("look at pool", spec.name, "there is no such pool on this node's disks")
        if not group.complete or group.catalog_fresh:
            raise StateError("look at pool", spec.name, "its making was cut short", way_out="start the node")
        was_active = group.active
        group.activate()
        if not was_active:
            stack.callback(group.deactivate)
        stack.enter_context(block.exclusive(group.catalog_path))
        directory = mount_catalog(group, place)
        if not was_active:
            stack.callback(unmount_catalog, directory)
        copy = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="thinpool-csi-")))
        copy_catalog(directory, copy)
        exists = (copy / FILE_NAME).exists()
        catalog = (
            Catalog.open(copy, group.pool_id) if exists else Catalog.create(None, group.pool_id, group.block_size, 0)
        )
        stack.callback(catalog.close)
        pool = _pool(spec, place, group, catalog, copy)
        pool.guard = recovery.examine(pool, metadata.thin_ids(pool.thin) - {SENTINEL})
        yield pool


def copy_catalog(directory: Path, copy: Path) -> None:
    """Copy the files of the catalog in ``directory``."""
    for file in directory.glob(f"{FILE_NAME}*"):
        shutil.copy(file, copy / file.name)


def rebuild_catalog(pool: Pool, claims: Sequence[Claim] = ()) -> list[str]:
    """Make the pool's catalog agree with the pool (see ``recovery.rebuild``), anew if it is lost.

    Where they agree already, only what is in quarantine becomes what its claim says. Raise BusyError while that is
    done already.
    """
    mine = [claim for claim in claims if claim.handle.pool == pool.id]
    with pool.claims.claim("rebuild catalog", "catalog"):
        return _rebuild(pool, mine) if pool.guard.why else pool.catalog.claim(mine)


def _rebuild(pool: Pool, claims: Sequence[Claim]) -> list[str]:
    if not pool.catalog.on_disk:
        damaged = pool.catalog_dir / FILE_NAME
        if damaged.exists():
            damaged.rename(damaged.with_suffix(".damaged"))
        fresh = Catalog.create(pool.catalog_dir, pool.id, pool.block_size, pool.thin.status().transaction_id)
        hit("rebuild.after-catalog")
        pool.held.callback(fresh.close)
        stale, pool.catalog = pool.catalog, fresh
        stale.close()
    return recovery.rebuild(pool, claims)


def _pool(spec: PoolSpec, place: Place, group: PoolGroup, catalog: Catalog, directory: Path) -> Pool:
    thin = _thin_pool(group, place)
    return Pool(
        spec=spec,
        id=group.pool_id,
        group=group,
        thin=thin,
        catalog=catalog,
        catalog_dir=directory,
        control=place.control,
        freezer=place.freezer,
        root=Root(str(place.kubelet_dir)),
        number=thin.number,
        block_size=group.block_size,
        kernel_ceiling=thin.status().transaction_id,
    )


def _thin_pool(group: PoolGroup, place: Place) -> ThinPool:
    # By UUID: a name is whatever somebody renamed the VG to.
    info = place.control.info_by_uuid(group.pool_uuid)
    if info is None:
        raise UnavailableError("find pool", group.pool_uuid, "it is not active", way_out="see 'dmsetup ls'")
    return ThinPool(place.control, info.name)


def _extend_full_metadata(spec: PoolSpec, group: PoolGroup, thin: ThinPool) -> None:
    """Extend metadata that is all but full: the messages that opening needs would fail, and nobody would extend it."""
    status = thin.status()
    full = status.metadata_used * 100 >= _METADATA_FULL * status.metadata_total
    if (full or status.mode is PoolMode.READ_ONLY) and not status.needs_check and group.room.metadata:
        log.warning("pool metadata is full, extended first", pool=spec.name)
        group.extend_metadata(layout.metadata_step(group.metadata_size, spec.autoextend.percent))


@contextmanager
def turn_to_open(spec: PoolSpec, place: Place) -> Iterator[None]:
    """Hold the lock that keeps two processes from opening, making or repairing one pool. Raise PoolBusyError."""
    place.state_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    lock = place.state_dir / f"{spec.name}.lock"
    lock.touch(mode=0o600)
    with block.exclusive(str(lock)):
        yield


def _format_catalog(group: PoolGroup) -> None:
    """Make the file system of a provably fresh catalog: its LV says so, and the pool was never adopted."""
    block.zero(group.catalog_path)
    mkfs.make(group.catalog_path, FsType.EXT4)
    hit("adopt.after-mkfs")
    group.catalog_formatted()
    hit("adopt.after-formatted")


def mount_catalog(group: PoolGroup, place: Place) -> Path:
    """Mount the catalog's LV; return where."""
    device = group.catalog_path
    directory = place.run_dir / group.pool_id / "catalog"
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    mount.make_private(str(place.run_dir))
    root = Root(str(place.run_dir))
    left = root.mounted(str(directory))
    if left is not None and left.is_of(device) and health.file_system_trouble(left, device):
        # It saw errors while the last process had it, and takes no more writes until it is checked.
        log.warning("the catalog's file system has failed: checked and mounted anew", device=device)
        unmount_catalog(directory)
    with root.directory(str(directory)) as target:
        there = target.mounted()
        if there is None:
            check.fsck(device, FsType.EXT4)
            mount.mount(device, target, FsType.EXT4, Options())
            hit("adopt.after-mount")
        elif not there.is_of(device):
            raise UnavailableError(
                "mount catalog", str(directory), f"{there.source} is mounted there", way_out="unmount it"
            )
    return directory


def unmount_catalog(directory: Path) -> None:
    """Take the catalog away from ``directory``, where ``mount_catalog`` has mounted it."""
    mount.unmount(Root(str(directory.parent.parent)), str(directory))


def _open_catalog(group: PoolGroup, thin: ThinPool, directory: Path) -> tuple[Catalog, str]:
    """Return the catalog, or an empty one in memory and why, if it is lost: then the pool may not be changed.

    Raise UnavailableError for one that is there and cannot be read now or by this version: nobody may rebuild that.
    """
    number = thin.status().transaction_id
    if (directory / FILE_NAME).exists():
        try:
            return Catalog.open(directory, group.pool_id), ""
        except DataLossError as error:
            why = str(error)
    elif number == 0 and not metadata.thin_ids(thin):
        catalog = Catalog.create(directory, group.pool_id, group.block_size, 1)
        hit("adopt.after-catalog")
        return catalog, ""
    else:
        why = f"the catalog is gone from a pool whose ids up to {number} are taken"
    return Catalog.create(None, group.pool_id, group.block_size, 0), why


def _adopt(pool: Pool) -> None:
    """Raise the pool's transaction id from LVM's 0, so that LVM refuses to make volumes of its own in it."""
    if pool.kernel_ceiling == 0:
        pool.cover(1)
        hit("adopt.after-transaction-id")
