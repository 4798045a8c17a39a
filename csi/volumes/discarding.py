"""Unmapping a thin device's blocks, a slice at a time, so that others get their turn at the pool in between."""

import os
import threading
import time
from typing import Final

from csi.dm import block
from csi.dm.thin_device import ThinDevice
from csi.failpoint import hit
from csi.model import SENTINEL, Handle
from csi.units import MIB, Bytes, round_up, sector_bytes
from csi.volumes.pool import Pool

# On one processor a writer was stalled for 10 ms by slices of any size up to 64 MiB that followed one another, for 4 ms
# by slices of 16 MiB with pauses, and for 2.5 ms by these; one of 1 GiB took 151 ms.
_SLICE: Final = Bytes(8 * MIB)
_PAUSE: Final = 0.0005
_TURN: Final = 0.0003
"""Seconds of discarding after which the others get their turn. Where nothing is mapped a slice takes much less."""
_LOOK_EVERY: Final = 64
"""Turns after which it is looked again whether there are others."""


def discard(pool: Pool, thin: ThinDevice, size: Bytes, stop: threading.Event | None = None) -> bool:
    """Discard all that an active device of ``size`` bytes maps; return False if ``stop`` was set on the way.

    Only whole blocks can be unmapped: a last block that ``size`` cuts short stays. Raise KernelError, UnavailableError.

    What was unmapped is committed in between. The kernel does that by itself once a second (drivers/md/dm-thin.c,
    ``COMMIT_PERIOD``) and with the next message, and what comes together in a second held writers for 5 to 17 ms.
    """
    status = thin.status()
    if status is None or status.highest is None:
        return True
    end = min(size, sector_bytes(status.highest) + pool.block_size)
    step = round_up(_SLICE, pool.block_size)
    mapped, spent, turns, others = status.mapped, 0.0, 0, False
    with block.opened(thin.path, os.O_WRONLY) as descriptor:
        for start in range(0, end, step):
            if stop is not None and stop.is_set():
                return False
            if spent > _TURN:
                if turns % _LOOK_EVERY == 0:
                    others = _others(pool, thin)
                spent, turns, now = 0.0, turns + 1, thin.status() if others else None
                # A commit flushes the disk, which many slices of nothing are not worth.
                if now is not None and now.mapped != mapped:
                    mapped = now.mapped
                    pool.thin.status(flush=True)
                    time.sleep(_PAUSE)
            begun = time.monotonic()
            block.discard(descriptor, Bytes(start), Bytes(min(step, size - start)))
            spent += time.monotonic() - begun
            hit("discard.half")
    return True


def _others(pool: Pool, thin: ThinDevice) -> bool:
    """Tell whether another volume of the pool is active; if none is, nobody waits."""
    sentinel = Handle(pool.id, SENTINEL).device
    ours = sentinel.removesuffix(str(SENTINEL))
    return any(each.name.startswith(ours) and each.name not in (thin.name, sentinel) for each in pool.control.devices())
