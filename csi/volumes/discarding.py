"""Unmapping a thin device's blocks, a slice at a time, so that others get their turn at the pool in between."""

import threading
from typing import Final

from csi.dm import block
from csi.dm.thin_device import ThinDevice
from csi.failpoint import hit
from csi.units import MIB, Bytes, round_up, sector_bytes
from csi.volumes.pool import Pool

# A slice of 64 MiB stalled a writer for 16 ms, one of 1 GiB for 151 ms.
_SLICE: Final = Bytes(64 * MIB)


def discard(pool: Pool, thin: ThinDevice, size: Bytes, stop: threading.Event | None = None) -> bool:
    """Discard all that an active device of ``size`` bytes maps; return False if ``stop`` was set on the way.

    Only whole blocks can be unmapped: a last block that ``size`` cuts short stays. Raise KernelError.
    """
    status = thin.status()
    if status is None or status.highest is None:
        return True
    path = thin.path
    end = min(size, sector_bytes(status.highest) + pool.block_size)
    step = round_up(_SLICE, pool.block_size)
    for start in range(0, end, step):
        if stop is not None and stop.is_set():
            return False
        block.discard(path, Bytes(start), Bytes(min(step, size - start)))
        hit("discard.half")
    return True
