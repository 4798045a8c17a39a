"""Giving back the space of deleted volumes and snapshots, in the background.

The kernel's ``delete`` message frees a device's blocks while it holds the pool's lock, for as long as that takes, and
passes no discard to the disks. So a device is first discarded in slices and then deleted, by then small.
"""

import errno
import threading
from typing import Final

import structlog

from csi.errors import DriverError, KernelError
from csi.failpoint import hit
from csi.model import Device, ThinId
from csi.volumes import template
from csi.volumes.discarding import discard
from csi.volumes.pool import PATIENCE, Pool

_BATCH: Final = 64

log = structlog.get_logger()


def reclaim(pool: Pool, stop: threading.Event) -> int:
    """Give back what is waiting, until nothing is or ``stop`` is set; return how many devices went.

    A device that cannot be given back now is left for the next time, with the reason in ``pool.reclaim_trouble``.
    """
    done = 0
    failed: set[ThinId] = set()
    if not pool.guard.why:
        template.drop_spare(pool)
    while not stop.is_set() and not pool.guard.why:
        rows = pool.catalog.deleting(_BATCH + len(failed))
        waiting = [device for device in rows if device.handle.thin not in failed]
        if not waiting:
            break
        for device in waiting:
            if stop.is_set():
                break
            try:
                if _reclaim_one(pool, device, stop):
                    done += 1
            except DriverError as error:
                failed.add(device.handle.thin)
                _trouble(pool, device, str(error))
    return done


def _trouble(pool: Pool, device: Device, why: str) -> None:
    if pool.reclaim_trouble.get(device.handle.thin) != why:
        pool.reclaim_trouble[device.handle.thin] = why
        log.warning("space not given back yet", volume=str(device.handle), why=why)


def _reclaim_one(pool: Pool, device: Device, stop: threading.Event) -> bool:
    thin_id = device.handle.thin
    with pool.turns.turn("give back space", thin_id, patience=PATIENCE):
        pool.healthy_status("give back space", str(device.handle), full_ok=True)
        if thin_id not in pool.emptying:
            ceiling = pool.catalog.emptying(covered=pool.kernel_ceiling)
            hit("reclaim.after-record")
            pool.cover(ceiling)
            pool.emptying.add(thin_id)
            hit("reclaim.after-reserve")
        emptied = _discard(pool, device, stop)
        pool.device(thin_id).deactivate()
        if not emptied:
            return False
        hit("reclaim.after-deactivate")
        try:
            pool.thin.delete(thin_id)
        except KernelError as error:
            # Never made, or deleted right before a crash.
            if error.errno != errno.ENODATA:
                raise
        hit("reclaim.after-message")
        # Before: who sees that nothing waits any more is to see no trouble either.
        pool.reclaim_trouble.pop(thin_id, None)
        pool.catalog.forget(device)
        hit("reclaim.after-forget")
        pool.emptying.discard(thin_id)
    return True


def _discard(pool: Pool, device: Device, stop: threading.Event) -> bool:
    """Discard all that is mapped, slice by slice; False if ``stop`` was set on the way."""
    thin = pool.device(device.handle.thin)
    try:
        thin.activate(pool.number, device.size)
    except KernelError as error:
        if error.errno == errno.ENODATA:
            return True
        raise
    hit("reclaim.after-activate")
    # Deletion saw that nobody uses it. A mkfs that outlived a crash may; and no use at all is worth a second look.
    thin.require_closed()
    done = discard(pool, thin, device.size, stop)
    hit("reclaim.after-discard")
    return done
