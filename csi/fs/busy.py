"""Waiting for what is in use to become free: the kernel tells nobody when that is."""

import errno
import time
from collections.abc import Callable
from typing import Final, TypeVar

DEVICE_PATIENCE: Final = 5.0
"""Seconds that a busy device is given.

What one thread has had open exclusively (open(2), O_EXCL), a process that another thread forked meanwhile holds on
to until its exec; and what a killed process had, the kernel lets go only some time after its end.
"""

_PAUSE: Final = 0.1

_Answer = TypeVar("_Answer")


def until_free(call: Callable[[], _Answer], deadline: float) -> _Answer:
    """Return what ``call`` does; call it again while it raises EBUSY, until ``deadline`` (of ``time.monotonic``)."""
    while True:
        try:
            return call()
        except OSError as error:
            if error.errno != errno.EBUSY or time.monotonic() >= deadline:
                raise
            time.sleep(_PAUSE)
