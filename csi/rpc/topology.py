"""Where volumes and snapshots are: on the one node whose disks hold them."""

from csi.errors import PlacementError
from csi.model import TOPOLOGY_KEY
from csi.pb.csi.v1 import csi_pb2 as pb
from csi.rpc.validate import invalid


def of_node(node: str) -> pb.Topology:
    """Return the topology of a node."""
    return pb.Topology(segments={TOPOLOGY_KEY: node})


def is_here(topology: pb.Topology, node: str, field: str) -> bool:
    """Tell whether ``topology`` is that of the node. Raise InvalidRequestError if it has no segments."""
    if not topology.segments:
        raise invalid(field, "a topology without segments")
    return dict(topology.segments) == {TOPOLOGY_KEY: node}


def check(requirement: pb.TopologyRequirement, node: str) -> None:
    """Raise PlacementError if the node is not among those that will do (CSI 1.13, ``TopologyRequirement``).

    Only ``requisite`` restricts: a preference for other nodes is one that this node's volumes cannot meet, and the
    specification then leaves the choice to the plugin.
    """
    field = "accessibility_requirements"
    here = [is_here(topology, node, f"{field}.requisite") for topology in requirement.requisite]
    for topology in requirement.preferred:
        is_here(topology, node, f"{field}.preferred")
    if here and not any(here):
        raise PlacementError("place on", f"node {node}", f"it is not among the {len(here)} requisite topologies")
