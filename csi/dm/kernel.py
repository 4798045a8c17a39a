"""What the running kernel must have, its modules loaded if need be."""

import contextlib
import os
from typing import Final

from csi import process
from csi.dm.ioctl import CONTROL, Control
from csi.errors import CommandError, KernelUnfitError

TARGET: Final = "thin-pool"
_MODPROBE_DEADLINE: Final = 30.0


def open_control() -> Control:
    """Open the device-mapper. Raise what Control does if the kernel has none."""
    if not os.path.exists(CONTROL):
        _load("dm-mod")
    return Control()


def require_thin_pools(control: Control) -> None:
    """See that the kernel has the target of thin pools. Raise KernelUnfitError."""
    if TARGET in control.target_versions():
        return
    _load("dm-thin-pool")
    if TARGET not in control.target_versions():
        raise KernelUnfitError(
            "use",
            "the device-mapper",
            "the kernel has no thin pools",
            way_out="load the module dm-thin-pool (modprobe dm-thin-pool), or use a kernel that has it;"
            " a container needs the host's /lib/modules",
        )


def _load(module: str) -> None:
    # It may be built in, forbidden or missing: whether it worked is asked of the kernel.
    with contextlib.suppress(CommandError):
        process.run(["modprobe", module], deadline=_MODPROBE_DEADLINE)
