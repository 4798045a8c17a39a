"""From options to the pools that are wanted and the place that they are served at."""

import argparse
import contextlib
import os
from typing import Final

from csi import process
from csi.dm.freezer import Freezer
from csi.dm.ioctl import CONTROL, Control
from csi.errors import CommandError, UnavailableError
from csi.settings import EMBEDDED, PoolSpec, load_pools
from csi.volumes.opening import Place

TARGET: Final = "thin-pool"
_MODPROBE_DEADLINE: Final = 30.0


def wanted_pools(options: argparse.Namespace) -> tuple[PoolSpec, ...]:
    """Return the pools of ``--pools``, else the embedded one. Raise InvalidRequestError for a bad file."""
    if options.pools is not None:
        return load_pools(options.pools)
    return (EMBEDDED,)


def find_place(options: argparse.Namespace) -> Place:
    """Start the guard of freezes, open the device-mapper, and return the place that the options name.

    To be called in the main thread before any other is started and before grpc is imported (see Freezer.start). Raise
    UnavailableError if this is not root, or the kernel has no thin pools.
    """
    if os.geteuid() != 0:
        raise UnavailableError("use", "the device-mapper", "only root may", way_out="run it as root")
    freezer = Freezer.start()
    return Place(
        node_name=options.node_name,
        state_dir=options.state_dir,
        run_dir=options.run_dir,
        kubelet_dir=options.kubelet_dir,
        control=_control(),
        freezer=freezer,
    )


def _control() -> Control:
    if not os.path.exists(CONTROL):
        _load("dm-mod")
    control = Control()
    if TARGET not in control.target_versions():
        _load("dm-thin-pool")
        if TARGET not in control.target_versions():
            raise UnavailableError(
                "use",
                "the device-mapper",
                "the kernel has no thin pools",
                way_out="load the module dm-thin-pool (modprobe dm-thin-pool), or use a kernel that has it;"
                " a container needs the host's /lib/modules",
            )
    return control


def _load(module: str) -> None:
    # It may be built in, forbidden or missing: whether it worked is asked of the kernel.
    with contextlib.suppress(CommandError):
        process.run(["modprobe", module], deadline=_MODPROBE_DEADLINE)
