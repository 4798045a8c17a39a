"""Block devices: their size, discarding, and the lock that says who serves a pool."""

import errno
import fcntl
import os
import stat
import struct
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Final

from csi.dm import abi
from csi.errors import KernelError, PoolBusyError
from csi.units import Bytes

# include/uapi/linux/fs.h
_BLKROGET: Final = 0x125E
_BLKDISCARD: Final = 0x1277
_BLKZEROOUT: Final = 0x127F
_BLKGETSIZE64: Final = 0x80081272

_ZERO_SLICE: Final = 64 << 20

# udev takes the same lock for as long as it probes a device (systemd.io/BLOCK_DEVICE_LOCKING).
_LOCK_PATIENCE: Final = 2.0
_LOCK_PAUSE: Final = 0.05


def node(number: str) -> str:
    """Return the path under /dev of the block device ``major:minor``, as the kernel names it. Raise KernelError."""
    path = f"/sys/dev/block/{number}/uevent"
    try:
        with open(path) as file:
            name = dict(line.strip().partition("=")[::2] for line in file)["DEVNAME"]
    except OSError as error:
        raise KernelError("look up block device", number, "the kernel has none", errno=error.errno or 0) from error
    except KeyError:
        raise KernelError("look up block device", number, f"{path} names no node") from None
    return f"/dev/{name}"


def size(path: str) -> Bytes:
    """Return the size of the block device at ``path``. Raise KernelError."""
    with opened(path, os.O_RDONLY) as descriptor:
        return Bytes(struct.unpack("=Q", _ioctl("read size", path, descriptor, _BLKGETSIZE64, bytearray(8)))[0])


def read_only(path: str) -> bool:
    """Tell whether the kernel holds the block device at ``path`` for read-only. Raise KernelError."""
    with opened(path, os.O_RDONLY) as descriptor:
        return bool(struct.unpack("=i", _ioctl("read flags", path, descriptor, _BLKROGET, bytearray(4)))[0])


def discard(device: str | int, offset: Bytes, length: Bytes) -> None:
    """Discard ``length`` bytes from ``offset`` of a device (path or open descriptor): blkdev BLKDISCARD, synchronous.

    A thin pool's lock is held for long if ``length`` is large: go in slices. Raise KernelError (EOPNOTSUPP: it takes
    no discards).
    """
    argument = bytearray(struct.pack("=QQ", offset, length))
    if isinstance(device, int):
        _ioctl("discard", os.readlink(f"/proc/self/fd/{device}"), device, _BLKDISCARD, argument)
        return
    with opened(device, os.O_WRONLY) as descriptor:
        _ioctl("discard", device, descriptor, _BLKDISCARD, argument)


def zero(path: str, offset: Bytes = Bytes(0)) -> None:
    """Make the block device at ``path`` read as zeros from ``offset`` on (BLKZEROOUT: by the disk where it can).

    Raise KernelError.
    """
    whole = size(path)
    with opened(path, os.O_WRONLY) as descriptor:
        for start in range(offset, whole, _ZERO_SLICE):
            length = min(_ZERO_SLICE, whole - start)
            _ioctl("zero", path, descriptor, _BLKZEROOUT, bytearray(struct.pack("=QQ", start, length)))


def flush(path: str) -> None:
    """See that what was written to the block device at ``path`` outlives a power cut. Raise KernelError."""
    with opened(path, os.O_RDONLY) as descriptor:
        try:
            os.fsync(descriptor)
        except OSError as error:
            raise KernelError("flush", path, "not all was written", errno=error.errno or 0) from error


@contextmanager
def exclusive(path: str) -> Iterator[int]:
    """Hold the lock of the device or lock file at ``path`` for the body; yield the descriptor that holds it.

    The lock (flock(2)) is on the inode, which for a device is that of its node: all that compete for it must see the
    same /dev. It goes with the process. Raise PoolBusyError if another process holds it for more than 2 s, KernelError
    if it cannot be opened.
    """
    with opened(path, os.O_RDONLY, kinds=(stat.S_IFBLK, stat.S_IFREG)) as descriptor:
        deadline = time.monotonic() + _LOCK_PATIENCE
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except OSError as error:
                if error.errno != errno.EWOULDBLOCK:
                    raise KernelError("lock", path, "flock failed", errno=error.errno or 0) from error
                if time.monotonic() >= deadline:
                    raise PoolBusyError(
                        "lock", path, "another process serves this pool", way_out="stop it first; one at a time"
                    ) from error
            time.sleep(_LOCK_PAUSE)
        yield descriptor


@contextmanager
def opened(path: str, flags: int, *, kinds: Sequence[int] = (stat.S_IFBLK,)) -> Iterator[int]:
    """Open the block device at ``path`` for the body. Raise KernelError, also (ENOTBLK) for what is none."""
    try:
        descriptor = os.open(path, flags | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        raise KernelError("open block device", path, "cannot be opened", errno=error.errno or 0) from error
    try:
        if stat.S_IFMT(os.fstat(descriptor).st_mode) not in kinds:
            raise KernelError("open block device", path, "it is none", errno=errno.ENOTBLK)
        yield descriptor
    finally:
        os.close(descriptor)


def _ioctl(operation: str, subject: str, descriptor: int, request: int, buffer: bytearray) -> bytearray:
    try:
        abi.ioctl(descriptor, request, buffer)
    except OSError as error:
        raise KernelError(operation, subject, "the kernel refused", errno=error.errno or 0) from error
    return buffer
