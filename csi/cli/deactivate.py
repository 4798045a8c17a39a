"""``thinpool-csi deactivate``: takes pools that nobody uses out of the kernel, with their loop devices."""

import argparse
import sys

from csi import log
from csi.cli.place import find_place, wanted_pools
from csi.errors import DriverError
from csi.lvm.pool_group import PoolGroup
from csi.volumes.node import Node


def run(options: argparse.Namespace) -> int:
    """Deactivate; 1, with a line on standard error, where a pool is served or in use."""
    log.configure(options.log_format, options.log_level)
    try:
        return _deactivate(options)
    except DriverError as error:
        print(f"thinpool-csi: {error}", file=sys.stderr)
        return 1


def _deactivate(options: argparse.Namespace) -> int:
    specs = wanted_pools(options)
    place = find_place(options)
    try:
        # Opening makes a pool that is not there, and nobody asked for that.
        there = [spec for spec in specs if PoolGroup.find(spec, place.node_name, place.state_dir) is not None]
        node = Node(place, there)
        try:
            node.open()
            node.deactivate()
        finally:
            node.close()
    finally:
        place.freezer.close()
    for spec in specs:
        closed = node.closed.get(spec.name)
        print(f"{spec.name}: {closed or ('deactivated' if spec in there else 'there is no such pool')}")
    return 1 if node.closed else 0
