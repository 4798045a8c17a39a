"""The sentinel: thin device 0, which holds the pool and its ballast.

Active, it makes LVM refuse to deactivate or remove the pool under our volumes. What it maps is ballast: a little space
that can be given to a pool which is full when nothing else helps, and is filled again when there is room.
"""

import errno
import mmap
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from csi.dm import block
from csi.dm.thin_device import ThinDevice
from csi.errors import KernelError
from csi.model import SENTINEL
from csi.settings import Mode
from csi.units import GIB, MIB, Bytes, block_bytes, round_up, sector_bytes
from csi.volumes.discarding import discard
from csi.volumes.pool import Pool

_SHARE: Final = 200  # half a percent
_MOST: Final = {Mode.DIRECT: Bytes(1 * GIB), Mode.LOOP: Bytes(64 * MIB)}
_CHUNK: Final = Bytes(4 * MIB)


def ensure(pool: Pool) -> ThinDevice:
    """See that the sentinel exists and is active. Raise KernelError, UnavailableError."""
    try:
        pool.thin.create_thin(SENTINEL)
    except KernelError as error:
        # EOPNOTSUPP: the pool takes no messages. Where it was made before, the sentinel is there.
        if error.errno not in (errno.EEXIST, errno.EOPNOTSUPP):
            raise
    sentinel = pool.device(SENTINEL)
    info = sentinel.info()
    if info is None or not info.has_live_table or info.suspended:
        sentinel.activate(pool.number, ballast_size(pool))
    return sentinel


def ballast_size(pool: Pool) -> Bytes:
    """Return how much ballast the pool should carry: 0.5 %, at most 1 GiB (in loop-lvm 64 MiB of the host's disk)."""
    whole = block_bytes(pool.thin.status().data_total, pool.block_size)
    return round_up(Bytes(max(min(whole // _SHARE, _MOST[pool.spec.mode]), MIB)), pool.block_size)


def ballast(pool: Pool) -> Bytes:
    """Return how much ballast there is now."""
    status = pool.device(SENTINEL).status()
    return sector_bytes(status.mapped) if status is not None else Bytes(0)


def drop(pool: Pool) -> Bytes:
    """Give the ballast to the pool; return how much it was."""
    had = ballast(pool)
    if had:
        sentinel = pool.device(SENTINEL)
        discard(pool, sentinel, block.size(sentinel.path))
        # The blocks are free only with the commit, which a status that flushes brings about.
        pool.thin.status(flush=True)
    return had


def refill(pool: Pool, most: Bytes, stop: Callable[[], bool]) -> Bytes:
    """Map up to ``most`` more bytes of ballast; return how much was written. The caller has seen that there is room.

    Ends early when ``stop`` says so: the pool is about to be taken out of the kernel, and its sentinel with it, or the
    ballast was dropped. On a pool that is filled meanwhile it waits as every writer does. Raise KernelError.
    """
    sentinel = pool.device(SENTINEL)
    if stop():
        return Bytes(0)
    # The pool may have been extended, and its ballast is to grow with it.
    size = Bytes(max(block.size(sentinel.path), ballast_size(pool)))
    path = sentinel.activate(pool.number, size)
    had = ballast(pool)
    if had >= size:
        return Bytes(0)
    # It is filled from the front and dropped whole, so what is mapped ends where filling stopped.
    written = 0
    # A block that is written whole needs no zeroing; of a block larger than a chunk one chunk maps it.
    with mmap.mmap(-1, min(pool.block_size, _CHUNK)) as zeros, _opened(path) as descriptor:
        try:
            for start in range(had, size, pool.block_size):
                if written >= most or stop():
                    return Bytes(written)
                os.pwrite(descriptor, zeros, start)
                written += pool.block_size
        except OSError as error:
            raise KernelError("refill ballast", path, "write failed", errno=error.errno or 0) from error
    if ballast(pool) < size:
        # Dropped while a write to it waited, it has a hole before what was written then: it begins anew.
        drop(pool)
    return Bytes(written)


@contextmanager
def _opened(path: str) -> Iterator[int]:
    # O_DIRECT: a page that waits to be written out would hold up the discard that is to make room.
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_DIRECT | os.O_CLOEXEC)
    except OSError as error:
        raise KernelError("open ballast", path, "cannot be opened", errno=error.errno or 0) from error
    try:
        yield descriptor
    finally:
        os.close(descriptor)
