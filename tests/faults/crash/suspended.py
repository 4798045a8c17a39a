"""Whether a freeze ends."""

import time
from typing import Final

from csi.dm.ioctl import Control

_FREEZE: Final = 2.0 + 2.0
"""Seconds after which nothing is suspended any more, whoever died; the guard's own bound is 2,
and a machine that is busy adds to it."""


def nothing_stays_suspended() -> None:
    """See that no volume is frozen for longer than the bound, with no node running that could end it."""
    deadline = time.monotonic() + _FREEZE
    with Control() as control:
        while suspended := [device.name for device in control.devices() if _frozen(control, device.name)]:
            assert time.monotonic() < deadline, f"suspended with no node: {suspended}"
            time.sleep(0.05)


def _frozen(control: Control, name: str) -> bool:
    info = control.info(name)
    return info is not None and info.suspended and info.has_live_table
