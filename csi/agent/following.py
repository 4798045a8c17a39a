"""What is to be done about the pools that the cluster wants: a pure function of what is wanted and what is open."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from csi.kube.thin_pool import Removal, Wanted
from csi.settings import PoolSpec


@dataclass(frozen=True)
class Following:
    """What to do, in this order."""

    release: tuple[str, ...]
    """Open pools to take out of the kernel, by name; they stay on their disks."""
    remove: tuple[str, ...]
    """Open, empty pools to remove from their disks."""
    want: tuple[PoolSpec, ...]
    """Pools to serve, made where there is none."""


def follow(wanted: Sequence[Wanted], open_pools: Mapping[str, bool], gone: Collection[str]) -> Following:
    """Return what is to be done.

    ``open_pools`` says of each open pool, by name, whether it is empty. ``gone`` are pools that were removed and whose
    ThinPoolNode is still there: they are not made again, and neither is one that leaves before it was made.
    """
    served = [
        each
        for each in wanted
        if not each.lost and not (each.leaving and (each.name in gone or not (each.made or each.name in open_pools)))
    ]
    names = {each.name for each in served}
    doomed = [
        each.name for each in served if each.leaving and each.removal is Removal.DELETE and open_pools.get(each.name)
    ]
    return Following(
        release=tuple(sorted(name for name in open_pools if name not in names)),
        remove=tuple(doomed),
        want=tuple(each.spec for each in served if each.name not in doomed),
    )
