"""Somebody who writes to a volume, in a thread, for as long as it takes."""

import mmap
import os
import threading
import time
from typing import Final

from csi.units import MIB
from tests.kernel.conftest import wait_until

_STEP: Final = int(MIB)


class Filler:
    """Writes ``size`` bytes from the start of a device or file, past the page cache, each MiB durable.

    Its thread never keeps the process from ending: a write to a full pool may wait for ever.
    """

    def __init__(self, path: str, size: int, *, pause: float = 0.0) -> None:
        self.written = 0
        self.error: OSError | None = None
        self._path = path
        self._size = size
        self._pause = pause
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        page = mmap.mmap(-1, _STEP)
        page.write(b"f" * _STEP)
        try:
            descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_DIRECT | os.O_DSYNC)
            try:
                while self.written < self._size:
                    os.pwrite(descriptor, page, self.written)
                    self.written += _STEP
                    time.sleep(self._pause)
            finally:
                os.close(descriptor)
        except OSError as error:
            self.error = error

    @property
    def done(self) -> bool:
        """Whether it has ended, with or without an error."""
        return not self._thread.is_alive()

    def finish(self, seconds: float = 60) -> None:
        """Wait for it; all must have been written."""
        wait_until(lambda: self.done, seconds)
        assert self.error is None, self.error
        assert self.written == self._size
