"""Somebody who writes to a volume all the time, and notices everything."""

import os
import time
from pathlib import Path

from tests.faults.process.background import Background


class Writer(Background):
    """Writes and syncs without a pause, and keeps the longest time that one write took."""

    def __init__(self, path: Path) -> None:
        self.writes = 0
        self.longest = 0.0
        self._file = os.open(path, os.O_WRONLY | (0 if path.is_block_device() else os.O_CREAT))
        super().__init__()

    def step(self) -> None:
        """Write one block."""
        begun = time.monotonic()
        os.pwrite(self._file, self.writes.to_bytes(8, "little") * 512, 4096 * (self.writes % 256))
        os.fdatasync(self._file)
        self.longest = max(self.longest, time.monotonic() - begun)
        self.writes += 1

    def end(self) -> None:
        """Write no more; raise what a write raised."""
        try:
            super().end()
        finally:
            os.close(self._file)
