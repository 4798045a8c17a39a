"""Templates: fresh file systems that the next new volumes of their shape begin as, as Docker's layers on a base device.

A template is a thin snapshot of a new volume right after its mkfs, before it is handed out: nobody's data is in it. It
is never active, listed or handed out, and dropped when it is not wanted any more.
"""

from typing import Final

import structlog

from csi.catalog.row import Draft
from csi.errors import BusyError, DriverError
from csi.fs import mkfs
from csi.model import Device, FsState, FsType, Kind, State
from csi.units import MIB, Bytes
from csi.volumes.cutting import cut_one
from csi.volumes.pool import Pool
from csi.volumes.templates import Shape

MOST: Final = 16
"""Templates of a pool; for one more the least recently used goes."""

_LARGEST_BLOCK: Final = MIB
"""With larger thin blocks a template would hold, and each first write copy, many times what mkfs wrote."""
_OPERATION: Final = "keep template"

log = structlog.get_logger()


def shape(pool: Pool, fs_type: FsType | None, size: Bytes, profile: str) -> Shape | None:
    """Return the shape of a new volume; None where it begins as no template."""
    if fs_type is None or not pool.spec.templates or pool.block_size > _LARGEST_BLOCK:
        return None
    try:
        command = mkfs.command(fs_type, mkfs.kernel_of(profile))
    except DriverError:
        # Its first stage will say so.
        return None
    return Shape(fs_type, size, " ".join(command))


def keep(pool: Pool, device: Device) -> None:
    """Keep the file system that was just made on the active, unmounted ``device``, whose turn the caller holds.

    Unless there is one of its shape. That it could not be kept is logged: the volume is as good without.
    """
    wanted = shape(pool, device.fs_type, device.size, device.mkfs_profile)
    if wanted is None or wanted in pool.templates:
        return
    draft = Draft(
        kind=Kind.TEMPLATE,
        state=State.CUTTING,
        name=None,
        size=device.size,
        origin=device.handle.thin,
        fs_state=FsState.FRESH,
        fs_type=wanted.fs_type,
        fs_unique=False,
        mkfs_profile=wanted.command,
    )
    try:
        with pool.claims.claim(_OPERATION, wanted):
            # Another volume of this shape may have been formatted meanwhile.
            if wanted not in pool.templates:
                pool.templates.add(cut_one(pool, _OPERATION, device, draft))
                drop_spare(pool)
    except BusyError:
        return
    except DriverError as error:
        log.warning("template not kept", pool=pool.spec.name, why=str(error))


def drop_spare(pool: Pool) -> None:
    """Have what is beyond the bound, or all if they are switched off, deleted. Raise UnavailableError."""
    spare = pool.templates.take_spare(MOST if pool.spec.templates else 0)
    if not spare:
        return
    try:
        pool.catalog.delete(spare)
    except DriverError:
        for device in spare:
            pool.templates.add(device)
        raise
    pool.reclaim_wanted.set()
