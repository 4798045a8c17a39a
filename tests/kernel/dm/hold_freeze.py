"""A program that freezes the devices it is given, says so, and never goes on; to be killed by a test.

``python -m tests.kernel.dm.hold_freeze <limit> <handle>…``
"""

import signal
import sys
from typing import Final

from csi.dm.freezer import Freezer
from csi.dm.ioctl import Control
from csi.dm.thin_device import ThinDevice
from csi.model import Handle

_MUCH: Final = 256 << 20
"""What it takes of memory at SIGUSR2."""


def main() -> None:
    """Freeze and wait for the end."""
    freezer = Freezer.start()
    eaten: list[bytes] = []
    signal.signal(signal.SIGUSR2, lambda _number, _frame: eaten.append(b"x" * _MUCH))
    with Control() as control:
        handles = [Handle.parse(text) for text in sys.argv[2:]]
        devices = [ThinDevice(control, handle) for handle in handles if handle is not None]
        with freezer.frozen(devices, limit=float(sys.argv[1])):
            sys.stdout.write("frozen\n")
            sys.stdout.flush()
            while True:
                signal.pause()


if __name__ == "__main__":
    main()
