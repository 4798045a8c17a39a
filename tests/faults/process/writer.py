"""Somebody who writes to a volume all the time, and notices everything."""

import os
import threading
import time
from pathlib import Path


class Writer:
    """Writes and syncs without a pause, and keeps the longest time that one write took."""

    def __init__(self, path: Path) -> None:
        self.writes = 0
        self.longest = 0.0
        self.trouble: OSError | None = None
        self._path = path
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def end(self) -> None:
        """Write no more; raise what a write raised."""
        self._ending.set()
        self._thread.join()
        if self.trouble is not None:
            raise self.trouble

    def _run(self) -> None:
        file = os.open(self._path, os.O_WRONLY | (0 if self._path.is_block_device() else os.O_CREAT))
        try:
            while not self._ending.is_set():
                begun = time.monotonic()
                os.pwrite(file, self.writes.to_bytes(8, "little") * 512, 4096 * (self.writes % 256))
                os.fdatasync(file)
                self.longest = max(self.longest, time.monotonic() - begun)
                self.writes += 1
        except OSError as error:
            self.trouble = error
        finally:
            os.close(file)
