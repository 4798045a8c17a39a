"""Threads that live faster than the rest of the machine: an hour of theirs is half a minute of ours."""

import threading
import time
from types import SimpleNamespace
from typing import Final

import pytest

RATE: Final = 120.0
"""Their seconds to one of ours."""
FOLLOWERS: Final = ("cluster", "watch ")
"""How the names of the threads begin that follow the cluster."""


def hasten(patch: pytest.MonkeyPatch) -> None:
    """Let the threads that follow the cluster wait, and measure time, by a fast clock.

    Only those: a freeze that lasts two seconds, and a program that is given ten, go by the kernel's clock.
    """
    begun, wait = time.monotonic(), threading.Event.wait

    def fast_wait(event: threading.Event, timeout: float | None = None) -> bool:
        fast = timeout is not None and threading.current_thread().name.startswith(FOLLOWERS)
        return wait(event, timeout / RATE if fast and timeout is not None else timeout)

    fast_time = SimpleNamespace(monotonic=lambda: begun + RATE * (time.monotonic() - begun))
    patch.setattr(threading.Event, "wait", fast_wait)
    patch.setattr("csi.agent.cluster.time", fast_time)


def live(seconds: float) -> None:
    """Wait until so many of their seconds are over."""
    threading.Event().wait(seconds / RATE)
