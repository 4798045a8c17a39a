"""Serve the pool on a disk until killed: ``python -m tests.kernel.volumes.hold_pool DIRECTORY DISK``."""

import sys
import time
from pathlib import Path

from csi.dm.freezer import Freezer
from csi.settings import PoolSpec
from tests.kernel.volumes.served import Served


def main() -> None:
    """Open, say so, and sleep."""
    base, disk = sys.argv[1:]
    Served(Path(base), PoolSpec("default", devices=(disk,)), Freezer.start()).open()
    sys.stdout.write("open\n")
    sys.stdout.flush()
    time.sleep(600)


if __name__ == "__main__":
    main()
