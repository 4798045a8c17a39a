"""Cutting thin snapshots: the one way in which a snapshot, a clone and a group come to be.

Of an origin at rest the kernel's message is enough. An origin in use is suspended with its file system frozen, and
what was cut counts only if the freeze held to the end and that was made durable; anything else is taken back and the
caller starts again with new ids.
"""

import errno
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

from csi.catalog.row import Draft
from csi.errors import BusyError, InvalidRequestError, KernelError, NotFoundError, StateError, UnavailableError
from csi.failpoint import hit
from csi.fs import mount
from csi.model import Device, Handle, Kind, State
from csi.units import Bytes
from csi.volumes import capacity, mounts
from csi.volumes.pool import REBUILD, Guard, Pool, is_live


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


def intend(
    pool: Pool, operation: str, name: str, drafts: Sequence[Draft], *, group: str | None = None
) -> tuple[list[Device], int]:
    """Record what is to be made, if there is room for it.

    Return it and the ceiling to cover before. Raise NoSpaceError, UnavailableError.
    """
    adding = Bytes(sum(draft.size for draft in drafts if draft.kind is Kind.VOLUME))
    admit = capacity.admission(pool, operation, name, adding)
    return pool.catalog.add(drafts, covered=pool.kernel_ceiling, group=group, admit=admit)


def cut_one(pool: Pool, operation: str, source: Device, draft: Draft) -> Device:
    """Make the device that ``draft`` describes as a snapshot of ``source``, whose turn the caller holds."""
    origin = pool.device(source.handle.thin)
    if not is_live(origin):
        return make_at_rest(pool, operation, draft)
    (device,), ceiling = intend(pool, operation, draft.name or "", [replace(draft, state=State.CUTTING)])
    hit("cut.after-intent")
    with taken_back(pool, [device]):
        pool.cover(ceiling)
        hit("cut.after-reserve")
        with pool.frozen(operation, [origin]):
            hit("cut.frozen")
            now = time.time_ns()
            make(pool, device, confirm=False)
            hit("cut.after-message")
        hit("cut.after-thaw")
        pool.thin.confirm(f"create_snap {device.handle.thin}")
        device, ceiling = pool.catalog.snapshot_cut(device, now, covered=pool.kernel_ceiling)
    hit("cut.after-record")
    # No part of the making: it is whole and recorded. An error here is answered, and the retry finds it.
    pool.cover(ceiling)
    hit("cut.after-outcome")
    return device


def make_at_rest(pool: Pool, operation: str, draft: Draft) -> Device:
    """Make the device that ``draft`` describes, blank or as a snapshot of what nobody writes to."""
    (device,), ceiling = intend(pool, operation, draft.name or "", [replace(draft, state=State.CREATING)])
    hit("create.after-intent")
    with taken_back(pool, [device]):
        pool.cover(ceiling)
        hit("create.after-reserve")
        make(pool, device)
        hit("create.after-message")
        device = pool.catalog.ready(device)
    hit("create.after-outcome")
    return device


def make(pool: Pool, device: Device, *, confirm: bool = True) -> None:
    """Send the message that makes a recorded device, blank or from its origin.

    Without ``confirm`` the caller looks afterwards whether the pool has kept it (``ThinPool.confirm``).

    No id is handed out twice. So one that is taken is data that the catalog does not know: it is quarantined, never
    taken back, and the pool takes no more changes. Raise UnavailableError then.
    """
    thin = device.handle.thin
    try:
        if device.origin is None:
            pool.thin.create_thin(thin)
        else:
            pool.thin.create_snap(thin, device.origin, confirm=confirm)
    except KernelError as error:
        if error.errno != errno.EEXIST:
            raise
        pool.catalog.quarantine(device)
        pool.guard = Guard(f"the pool has a device that the catalog does not know ({device.handle})", REBUILD)
        raise UnavailableError("make device", str(device.handle), pool.guard.why, way_out=REBUILD) from error


@contextmanager
def taken_back(pool: Pool, devices: Sequence[Device]) -> Iterator[None]:
    """On an error, hand devices that may half exist to the deletion queue, so that nothing is left over."""
    try:
        yield
    except BaseException:
        take_back(pool, devices)
        raise


def take_back(pool: Pool, devices: Sequence[Device]) -> None:
    """Hand devices to the deletion queue, with the group that they were to be."""
    pool.catalog.delete(devices, group=devices[0].group)
    pool.reclaim_wanted.set()


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
