"""Cutting thin snapshots: the one way in which a snapshot, a clone and a group come to be.

Of an origin at rest the kernel's message is enough. An origin in use is suspended with its file system frozen, and
what was cut counts only if the freeze held to the end and that was made durable; anything else is taken back and the
caller starts again with new ids.
"""

import time
from collections.abc import Sequence
from dataclasses import replace

from csi.catalog.row import Draft
from csi.errors import BusyError, InvalidRequestError, NotFoundError, StateError
from csi.failpoint import hit
from csi.fs import mount
from csi.model import Device, Handle, Kind, State
from csi.volumes import mounts
from csi.volumes.making import intend, make, make_at_rest, take_back, taken_back
from csi.volumes.pool import Pool, is_live


def source_of(pool: Pool, operation: str, handle: Handle, kinds: Sequence[Kind]) -> Device:
    """Return the device ``handle`` names, if it can be cut from now.

    Raise NotFoundError, StateError for what is in no state to be copied, BusyError while it is being made.
    """
    device = pool.catalog.device(handle.thin)
    if device is None or device.kind not in kinds or device.state is State.DELETING:
        raise pool.not_found(operation, handle, "source")
    if device.state is State.LOST:
        raise StateError(operation, str(handle), "the pool does not have it any more", way_out="restore from a backup")
    if device.state is not State.READY:
        raise BusyError(operation, str(handle), "it is being made", way_out="send it again later")
    return device


def settle(pool: Pool, operation: str, source: Handle) -> None:
    """Let the file system on ``source`` write out what it holds, so that the freeze that follows is short.

    On a full pool that would wait for ever: raise as ``Pool.require_freezable`` does.
    """
    info = pool.device(source.thin).info()
    if info is None:
        return
    pool.require_freezable(operation)
    for where in mounts.anywhere(info):
        if not pool.root.contains(where):
            continue
        try:
            with pool.root.directory(where) as place:
                mount.syncfs(place)
        except (NotFoundError, InvalidRequestError):
            # Unmounted meanwhile, or the bound node of a raw block volume: nothing of ours to write out.
            continue
        return


def cut_one(pool: Pool, operation: str, source: Device, draft: Draft) -> Device:
    """Make the device that ``draft`` describes as a snapshot of ``source``, whose turn the caller holds."""
    origin = pool.device(source.handle.thin)
    if not is_live(origin):
        return make_at_rest(pool, draft)
    (device,), ceiling = intend(pool, operation, draft.name or "", [replace(draft, state=State.CUTTING)])
    hit("cut.after-intent")
    with taken_back(pool, [device]):
        pool.cover(ceiling)
        hit("cut.after-reserve")
        with pool.frozen(operation, [origin]):
            hit("cut.frozen")
            now = time.time_ns()
            make(pool, device)
            hit("cut.after-message")
        hit("cut.after-thaw")
        pool.thin.confirm(f"create_snap {device.handle.thin}")
        device, ceiling = pool.catalog.snapshot_cut(device, now, covered=pool.kernel_ceiling)
    hit("cut.after-record")
    # No part of the making: it is whole and recorded. An error here is answered, and the retry finds it.
    pool.cover(ceiling)
    hit("cut.after-outcome")
    return device


def made_before(pool: Pool, operation: str, existing: Device | None) -> Device | None:
    """Return what has the name that the caller holds the claim on, if it was made to the end.

    One that was not is nobody's: its making failed, and so did taking it back. That is done now. Raise StateError for
    one that is lost.
    """
    if existing is None:
        return None
    if existing.state is State.LOST:
        raise StateError(operation, str(existing.handle), "the pool does not have it any more", way_out="delete it")
    if existing.state is State.READY:
        # Its making may have failed at the very last step.
        pool.cover_recorded()
        return existing
    pool.require_open(operation, str(existing.handle))
    take_back(pool, [existing])
    return None
