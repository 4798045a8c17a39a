"""Writers that a full pool may hold up, and what they wrote."""

import mmap
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from csi.units import MIB
from csi.volumes.pool import Pool

_PAGE: Final = 4096
_NO_END: Final = 1 << 30


class Writer:
    """Writes one numbered MiB after the other to a new file or a device, each durable, until told to end.

    Its thread never keeps the process from ending: a write to a full pool may wait for ever.
    """

    def __init__(self, path: str) -> None:
        self.written = 0
        self.error: OSError | None = None
        self.path = path
        self._end = _NO_END
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    @property
    def done(self) -> bool:
        """Whether it has ended, with or without an error."""
        return not self._thread.is_alive()

    def write_more(self, count: int) -> None:
        """Write so many MiB more than what is durable now, and end."""
        self._end = self.written + count

    def verify(self) -> None:
        """See that everything that was durable is there, on the disk and not in memory alone."""
        with _direct(self.path, os.O_RDONLY) as descriptor, mmap.mmap(-1, MIB) as buffer:
            for number in range(self.written):
                assert os.preadv(descriptor, [buffer], number * MIB) == MIB
                assert buffer[:] == _stamp(number), f"{self.path}: MiB {number} is not what was written"

    def _run(self) -> None:
        # Files through the page cache, where a full pool finds them when they are written out; devices past it.
        flags = os.O_DIRECT | os.O_DSYNC if os.path.exists(self.path) else os.O_CREAT | os.O_DSYNC
        try:
            with _opened(self.path, os.O_WRONLY | flags) as descriptor, mmap.mmap(-1, MIB) as buffer:
                while self.written < self._end:
                    buffer[:] = _stamp(self.written)
                    os.pwrite(descriptor, buffer, self.written * MIB)
                    self.written += 1
        except OSError as error:
            self.error = error


def map_blocks(path: str, pool: Pool, first: int, count: int, *, per_second: float = 0) -> float:
    """Have ``count`` blocks of a device mapped, by a page each; return how long the longest took, in seconds."""
    longest = 0.0
    with _direct(path, os.O_WRONLY) as descriptor, mmap.mmap(-1, _PAGE) as page:
        page.write(b"m" * _PAGE)
        for number in range(first, first + count):
            begun = time.monotonic()
            os.pwrite(descriptor, page, number * pool.block_size)
            longest = max(longest, time.monotonic() - begun)
            if per_second:
                time.sleep(1 / per_second)
    return longest


def free_blocks(pool: Pool) -> int:
    """Return how many data blocks are free right now."""
    status = pool.thin.status(flush=True)
    return status.data_total - status.data_used


def _stamp(number: int) -> bytes:
    return number.to_bytes(8, "little") * (MIB // 8)


@contextmanager
def _direct(path: str, flags: int) -> Iterator[int]:
    with _opened(path, flags | os.O_DIRECT) as descriptor:
        yield descriptor


@contextmanager
def _opened(path: str, flags: int) -> Iterator[int]:
    descriptor = os.open(path, flags, 0o600)
    try:
        yield descriptor
    finally:
        os.close(descriptor)
