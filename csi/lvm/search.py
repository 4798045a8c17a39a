"""Whose pool is it: choosing among the VGs that a pool's disks hold, and taking one over."""

import os
from collections.abc import Sequence

from csi.errors import DisksMissingError, ForeignPoolError, StateError
from csi.lvm import names
from csi.lvm.runner import Lvm
from csi.lvm.values import VolumeGroup
from csi.model import is_pool_id
from csi.settings import PoolSpec


def present(paths: Sequence[str]) -> tuple[str, ...]:
    """Return the kernel's names of those devices that exist."""
    return tuple(os.path.realpath(path) for path in paths if os.path.exists(path))


def choose(spec: PoolSpec, system_id: str, groups: Sequence[VolumeGroup]) -> VolumeGroup | None:
    """Return the VG to use for ``spec`` on the node with ``system_id``; None if there is none.

    Raise ForeignPoolError if there are only pools of others; StateError if there is more than one to choose from.
    """
    pools = [group for group in groups if names.TAG_DRIVER in group.tags and is_pool_id(group.tag(names.TAG_ID))]
    own = [group for group in pools if group.system_id == system_id and group.tag(names.TAG_POOL) == spec.name]
    chosen = own or [group for group in pools if group.tag(names.TAG_ID) in spec.adopt]
    if len(chosen) > 1:
        ids = ", ".join(sorted(group.tag(names.TAG_ID) for group in chosen))
        raise StateError(
            "open pool", spec.name, f"its disks hold several pools: {ids}", way_out="name the disks of one of them"
        )
    foreign = [group for group in pools if group.system_id != system_id]
    if not chosen and foreign:
        owners = ", ".join(f"{group.tag(names.TAG_ID)} of {group.system_id or 'nobody'}" for group in foreign)
        raise ForeignPoolError(
            "open pool",
            spec.name,
            f"its disks hold a pool of another node: {owners}",
            way_out="if that node does not use it any more, name the pool id in 'adopt'",
        )
    return chosen[0] if chosen else None


def take_over(spec: PoolSpec, lvm: Lvm, group: VolumeGroup) -> bool:
    """Make a chosen VG this node's and the spec's, where it is not; tell whether anything was changed.

    The owner comes first: cut short after it, the next start still finds the pool by ``adopt``.
    """
    changed = False
    if group.system_id != lvm.system_id:
        lvm.run("vgchange", "--yes", "--systemid", lvm.system_id, group.name, acting_for=group.system_id)
        changed = True
    named = group.tag(names.TAG_POOL)
    if named != spec.name:
        old = ("--deltag", f"{names.TAG_POOL}={named}") if named else ()
        lvm.run("vgchange", *old, "--addtag", f"{names.TAG_POOL}={spec.name}", group.name)
        changed = True
    return changed


def check_disks(pool: str, group: VolumeGroup, doubled: frozenset[str] = frozenset()) -> None:
    """Raise DisksMissingError if disks of the VG are missing, StateError if one of them is among the doubled."""
    lost = ", ".join(disk.uuid for disk in group.disks if disk.missing)
    if lost or group.missing:
        raise DisksMissingError(
            "open pool",
            f"{pool} ({group.name})",
            f"{group.missing} of its disks are missing (PV {lost})",
            way_out="bring them back, and see that the pool's devices name all of them",
        )
    if any(disk.uuid in doubled for disk in group.disks):
        raise StateError(
            "open pool",
            f"{pool} ({group.name})",
            "two devices show the same physical volume",
            way_out="name only one of them in the pool's devices",
        )
