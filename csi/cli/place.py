"""From options to the pools that are wanted and the place that they are served at."""

import argparse
import os

from csi.dm import kernel
from csi.dm.freezer import Freezer
from csi.errors import NotFoundError, UnavailableError
from csi.settings import EMBEDDED, PoolSpec, load_pools
from csi.volumes.opening import Place


def wanted_pools(options: argparse.Namespace) -> tuple[PoolSpec, ...]:
    """Return the pools of ``--pools``, else the embedded one. Raise InvalidRequestError for a bad file."""
    if options.pools is not None:
        return load_pools(options.pools)
    return (EMBEDDED,)


def wanted_pool(options: argparse.Namespace) -> PoolSpec:
    """Return the pool that ``--pool`` names, in a cluster's node as the cluster wanted it last.

    Raise NotFoundError, InvalidRequestError.
    """
    # Only here: it loads Kubernetes' client.
    from csi.agent.memory import Memory  # noqa: PLC0415
    from csi.kube.thin_pool import pool_spec  # noqa: PLC0415

    if options.pools is None:
        for pool, _ in Memory(options.state_dir / "wanted.json").recall():
            if pool["metadata"]["name"] == options.pool:
                return pool_spec(pool)
    for spec in wanted_pools(options):
        if spec.name == options.pool:
            return spec
    raise NotFoundError("find pool", options.pool, "no pool of this name is wanted here", way_out="see --pools")


def find_place(options: argparse.Namespace, *, in_cluster: bool = False) -> Place:
    """Start the guard of freezes, open the device-mapper, and return the place that the options name.

    To be called in the main thread before any other is started and before grpc is imported (see Freezer.start). Raise
    UnavailableError if this is not root, or the kernel has no thin pools; ``in_cluster`` that is told of each pool.
    """
    if os.geteuid() != 0:
        raise UnavailableError("use", "the device-mapper", "only root may", way_out="run it as root")
    freezer = Freezer.start()
    control = kernel.open_control()
    if not in_cluster:
        kernel.require_thin_pools(control)
    return Place(
        node_name=options.node_name,
        state_dir=options.state_dir,
        run_dir=options.run_dir,
        kubelet_dir=options.kubelet_dir,
        control=control,
        freezer=freezer,
    )
