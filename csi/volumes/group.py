"""Group snapshots: several volumes of one pool, cut at one point in time."""

import time
from collections.abc import Sequence
from typing import Final

from csi.errors import ExistsError, InvalidRequestError
from csi.failpoint import hit
from csi.model import Group, GroupHandle, Handle, Kind
from csi.volumes import volume
from csi.volumes.cutting import settle, source_of
from csi.volumes.making import intend, make, taken_back
from csi.volumes.pool import PATIENCE, Pool
from csi.volumes.snapshot import draft

_CREATE: Final = "create group snapshot"
_DELETE: Final = "delete group snapshot"

MOST_MEMBERS: Final = 256
"""Every member is frozen until the last is cut, and a freeze may not last longer than two seconds."""


def create(pool: Pool, name: str, handles: Sequence[Handle]) -> Group:
    """Cut all volumes at one point in time, or return the group that an equal request cut before.

    The caller holds the claim on the name. Raise NotFoundError, ExistsError, InvalidRequestError, NoSpaceError,
    UnavailableError, BusyError.
    """
    if len(set(handles)) != len(handles):
        raise InvalidRequestError(_CREATE, name, "a volume is named twice")
    if len(handles) > MOST_MEMBERS:
        raise InvalidRequestError(_CREATE, name, f"{len(handles)} volumes, at most {MOST_MEMBERS} can be cut together")
    thins = [handle.thin for handle in handles]
    existing = pool.catalog.group_named(name)
    if existing is not None:
        known, sources, cut = existing
        if cut and set(sources) != set(thins):
            raise ExistsError(_CREATE, name, f"the name is taken by {known.handle}, of other volumes")
        if cut:
            pool.cover_recorded()
            return known
    pool.require_open(_CREATE, name)
    if existing is not None:
        # The claim on the name is ours, so nobody is making it: it failed, and so did taking it back.
        pool.catalog.delete(existing[0].members, group=existing[0].handle.group)
        pool.reclaim_wanted.set()
    for handle in handles:
        source_of(pool, _CREATE, handle, (Kind.VOLUME,))
        settle(pool, _CREATE, handle)
    with pool.turns.turn(_CREATE, *thins, patience=PATIENCE):
        sources_now = [source_of(pool, _CREATE, handle, (Kind.VOLUME,)) for handle in handles]
        members, ceiling = intend(pool, _CREATE, name, [draft(source, None) for source in sources_now], group=name)
        hit("group.after-intent")
        with taken_back(pool, members):
            pool.cover(ceiling)
            hit("group.after-reserve")
            with pool.frozen(_CREATE, [pool.device(thin) for thin in thins]):
                hit("group.frozen")
                now = time.time_ns()
                for place, member in enumerate(members):
                    make(pool, member)
                    if place == len(members) // 2:
                        hit("group.half-cut")
                hit("group.after-messages")
            hit("group.after-thaw")
            pool.thin.confirm(f"create_snap {members[-1].handle.thin}")
            group_id = members[0].group
            assert group_id is not None, "the catalog gave the members their group"  # noqa: S101 - narrows the type
            group, ceiling = pool.catalog.group_cut(group_id, now, covered=pool.kernel_ceiling)
        hit("group.after-record")
        pool.cover(ceiling)
        hit("group.after-outcome")
        return group


def get(pool: Pool, handle: GroupHandle, members: Sequence[Handle], operation: str = "get group snapshot") -> Group:
    """Return a group snapshot. ``members``, if any, must be its own: InvalidRequestError. Raise NotFoundError."""
    group = pool.catalog.group(handle.group)
    if group is None:
        raise pool.not_found(operation, handle, "group snapshot")
    _require_members(operation, group, members)
    return group


def delete(pool: Pool, handle: GroupHandle, members: Sequence[Handle]) -> None:
    """Delete a group snapshot with all its members; one that is not there is deleted already."""
    pool.require_open(_DELETE, str(handle))
    group = pool.catalog.group(handle.group)
    if group is None:
        return
    with pool.claims.claim(_DELETE, handle, *(member.handle for member in group.members)):
        group = pool.catalog.group(handle.group)
        if group is None:
            return
        _require_members(_DELETE, group, members)
        for member in group.members:
            volume.require_unused(pool, member, _DELETE)
        pool.catalog.delete(group.members, group=handle.group)
        hit("group-delete.after-intent")
    pool.reclaim_wanted.set()


def _require_members(operation: str, group: Group, members: Sequence[Handle]) -> None:
    if members and set(members) != {member.handle for member in group.members}:
        raise InvalidRequestError(operation, str(group.handle), "the snapshots named are not the group's members")
