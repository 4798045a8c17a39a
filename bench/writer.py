"""A program that writes to a file and notices how long it is held: ``python -m bench.writer FILE STATE PAUSE SYNC``."""

import mmap
import os
import struct
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from csi.units import KIB
from tests.kernel.conftest import wait_until

_STATE: Final = struct.Struct("=dQ")
"""The longest write since the other side set it to 0, in seconds; how many there were."""
_ROOM: Final = 256
"""Blocks of 4 KiB that are written over and over."""
_START: Final = 30.0


class Writer:
    """A writer as a process of its own, for the body of a ``with``.

    ``durable`` says whether each write is forced out; without that it is held by a frozen file system alone. Between
    two writes it sleeps for ``pause`` seconds.
    """

    def __init__(self, path: str, *, durable: bool, pause: float) -> None:
        self._file = Path(f"/dev/shm/bench-writer-{os.getpid()}")  # noqa: S108 - memory that two processes share
        self._file.write_bytes(bytes(_STATE.size))
        with self._file.open("r+b") as file:
            self._state = mmap.mmap(file.fileno(), _STATE.size)
        arguments = [path, str(self._file), str(pause), str(int(durable))]
        argv = [sys.executable, "-m", "bench.writer", *arguments]
        self._process = subprocess.Popen(argv)  # noqa: S603 - our own module

    def __enter__(self) -> Self:
        wait_until(self._written, _START)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.wait(_START)
        self._state.close()
        self._file.unlink()

    def reset(self) -> None:
        """Forget the longest write so far."""
        _, count = _STATE.unpack_from(self._state)
        _STATE.pack_into(self._state, 0, 0.0, count)

    def longest(self) -> float:
        """Return the longest write since ``reset``, one that was under way when asked included. Seconds."""
        before = self._written()
        wait_until(lambda: self._written() >= before + 2, _START)
        return float(_STATE.unpack_from(self._state)[0])

    def _written(self) -> int:
        if self._process.poll() is not None:
            message = f"the writer ended with {self._process.returncode}"
            raise OSError(message)
        return int(_STATE.unpack_from(self._state)[1])


def main(path: str, state: str, pause: float, *, durable: bool) -> None:
    """Write until killed."""
    with open(state, "r+b") as file:
        shared = mmap.mmap(file.fileno(), _STATE.size)
    block = os.urandom(4 * KIB)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT, 0o600)
    while True:
        _, count = _STATE.unpack_from(shared)
        begun = time.perf_counter()
        os.pwrite(descriptor, block, len(block) * (count % _ROOM))
        if durable:
            os.fdatasync(descriptor)
        took = time.perf_counter() - begun
        longest, _ = _STATE.unpack_from(shared)
        _STATE.pack_into(shared, 0, max(longest, took), count + 1)
        time.sleep(pause)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], float(sys.argv[3]), durable=sys.argv[4] == "1")
