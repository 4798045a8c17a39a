"""Trimming: the blocks that mounted file systems have freed go back to the pool."""

import threading
from typing import Final

import structlog

from csi.errors import DriverError
from csi.fs import mountinfo
from csi.model import Kind
from csi.process import run
from csi.volumes.pool import Pool

_DEADLINE: Final = 3600.0

log = structlog.get_logger()


def trim(pool: Pool, stop: threading.Event) -> int:
    """Trim every volume of the pool that is mounted read-write (fstrim(8)); return how many were.

    One that cannot be trimmed is logged and passed over. Raise DriverError if the volumes cannot be listed.
    """
    done = 0
    for device in pool.catalog.each(kind=Kind.VOLUME):
        if stop.is_set():
            break
        try:
            info = pool.device(device.handle.thin).info()
            writable = [] if info is None else [m for m in mountinfo.of_device(info.path) if not m.read_only]
            below = [mount.mount_point for mount in writable if pool.root.contains(mount.mount_point)]
            if below:
                run(["fstrim", below[0]], deadline=_DEADLINE)
                done += 1
        except DriverError as error:
            log.warning("volume not trimmed", volume=str(device.handle), why=str(error))
    return done
