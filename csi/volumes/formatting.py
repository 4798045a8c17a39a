"""The file system of a volume before its first mount: made once, never over data.

``unformatted`` → ``formatting`` (durable before mkfs) → ``formatted`` (durable before the volume is handed out). mkfs
runs only on a device that maps nothing. One found ``formatting`` was never handed out: it is emptied and made anew.
"""

from typing import Final

from csi.dm import block
from csi.dm.thin_device import ThinDevice
from csi.errors import DataLossError, StateError
from csi.failpoint import hit
from csi.fs import check, mkfs
from csi.model import Device, FsState, FsType
from csi.units import round_down, sector_bytes
from csi.volumes import template
from csi.volumes.discarding import discard
from csi.volumes.pool import Pool

_OPERATION: Final = "stage volume"
_WAY_OUT: Final = "nothing was written; look at the volume's device, or restore a snapshot into a new volume"


def prepare(pool: Pool, device: Device, path: str) -> None:
    """See that the active device at ``path`` holds its file system, sound enough to be mounted.

    Raise DataLossError when a file system should be there and is not, or when something is there that should not be,
    StateError where none need be there: they name what was found, and nothing is written.
    """
    wanted = device.fs_type or FsType.EXT4
    thin = pool.device(device.handle.thin)
    if device.fs_state in (FsState.UNFORMATTED, FsState.FORMATTING):
        _format(pool, device, thin, path, wanted)
        template.keep(pool, device)
        return
    if device.fs_state is FsState.FRESH:
        # Recorded as in use below, which raises the ceiling; and its first writes need blocks of its own.
        pool.require_open(_OPERATION, str(device.handle))
        pool.healthy_status(_OPERATION, str(device.handle))
    _require(device, path, wanted)
    if wanted is FsType.BTRFS and not device.fs_unique:
        # A copy has its source's UUID, by which the kernel would take the two for one file system.
        check.renew_uuid(path, wanted)
        hit("stage.after-renew")
        pool.catalog.fs_renewed(device)
    if device.fs_state is FsState.FRESH:
        # As mkfs left it. From here on it is a pod's.
        _record(pool, device, wanted)
    else:
        check.fsck(path, wanted)


def _require(device: Device, path: str, wanted: FsType) -> None:
    """See that the device holds what it should. Raise StateError, DataLossError."""
    unknown = device.fs_state is FsState.UNKNOWN
    # Of what we made ourselves its own mark says enough. Whatever else there is, blkid tells by a process of its own.
    if not unknown and check.begins_as(path, wanted):
        return
    found = check.probe(path)
    if found.fs_type is wanted:
        return
    if unknown:
        # A copy of raw blocks, or a volume of a catalog made again: that it ever held one, nobody has said.
        why = f"it is to be mounted as {wanted} and shows {found.name}"
        raise StateError(_OPERATION, str(device.handle), why, way_out=_WAY_OUT)
    why = f"it should hold {wanted} and shows {found.name}"
    raise DataLossError(_OPERATION, str(device.handle), why, way_out=_WAY_OUT)


def _format(pool: Pool, device: Device, thin: ThinDevice, path: str, wanted: FsType) -> None:
    pool.require_open(_OPERATION, str(device.handle))
    pool.healthy_status(_OPERATION, str(device.handle))
    tolerated = 0
    if device.fs_state is FsState.FORMATTING:
        # A mkfs outlives the process that began it, and must not go on writing under the next one.
        thin.require_closed()
        discard(pool, thin, device.size)
        # A last block that is not whole cannot be discarded, only emptied.
        tail = round_down(device.size, pool.block_size)
        if tail < device.size:
            block.zero(path, tail)
            tolerated = pool.block_size
    status = thin.status()
    if status is None or sector_bytes(status.mapped) > tolerated:
        raise DataLossError(
            _OPERATION,
            str(device.handle),
            "it was never formatted, and yet holds data",
            way_out=_WAY_OUT,
        )
    pool.catalog.formatting(device)
    hit("stage.after-formatting")
    mkfs.make(path, wanted, profile=device.mkfs_profile)
    hit("stage.after-mkfs")
    _record(pool, device, wanted)


def _record(pool: Pool, device: Device, fs_type: FsType) -> None:
    ceiling = pool.catalog.formatted(device, fs_type, covered=pool.kernel_ceiling)
    hit("stage.after-formatted")
    pool.cover(ceiling)
    hit("stage.after-reserve")
