"""Making thin devices: recorded, then made by the pool's message, then recorded as made; or taken back.

Those that need no freeze and are asked for at the same time are made together: one transaction, one flush of the disk
and one look at the pool serve them all.
"""

import errno
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial

from csi.catalog.row import Draft
from csi.errors import DriverError, KernelError, NoSpaceError, UnavailableError
from csi.failpoint import hit
from csi.model import Device, Kind, State
from csi.units import Bytes
from csi.volumes import capacity
from csi.volumes.pool import PATIENCE, REBUILD, Guard, Pool


def make_at_rest(pool: Pool, draft: Draft) -> Device:
    """Make the device that ``draft`` describes, blank or as a snapshot of what nobody writes to.

    Raise NoSpaceError, UnavailableError, KernelError.
    """
    operation, subject = _named(draft)
    wanted = replace(draft, state=State.CREATING)
    return pool.making.have(wanted, partial(_make_all, pool), operation=operation, subject=subject, patience=PATIENCE)


def _make_all(pool: Pool, drafts: Sequence[Draft]) -> list[Device | Exception]:
    """Make them together; where there is no room for all, one after the other as far as it goes."""
    try:
        return _make_together(pool, drafts)
    except NoSpaceError as error:
        if len(drafts) == 1:
            return [error]
        return [outcome for draft in drafts for outcome in _make_all(pool, [draft])]
    except DriverError as error:
        if (error.operation, error.subject) != _named(drafts[0]):
            return [error] * len(drafts)
        # What is said of the first holds for each.
        said, way_out = type(error), error.way_out
        return [said(*_named(draft), error.why, errno=error.errno, way_out=way_out) for draft in drafts]


def _named(draft: Draft) -> tuple[str, str]:
    """Return the operation and the subject, for errors."""
    return f"create {draft.kind}", draft.name or ""


def _make_together(pool: Pool, drafts: Sequence[Draft]) -> list[Device | Exception]:
    devices, ceiling = intend(pool, *_named(drafts[0]), drafts)
    hit("create.after-intent")
    with taken_back(pool, devices):
        pool.cover(ceiling)
        hit("create.after-reserve")
        outcomes = [_outcome(pool, device) for device in devices]
        hit("create.after-message")
    failed = [device for device, said in zip(devices, outcomes, strict=True) if isinstance(said, KernelError)]
    if failed:
        take_back(pool, failed)
    made = [said for said in outcomes if isinstance(said, Device)]
    if made:
        with taken_back(pool, made):
            pool.thin.confirm(", ".join(_message(device) for device in made))
            ready = iter(pool.catalog.ready(made))
            outcomes = [next(ready) if isinstance(said, Device) else said for said in outcomes]
    hit("create.after-outcome")
    return outcomes


def _outcome(pool: Pool, device: Device) -> Device | Exception:
    """Make one of several, or say why not: the others do not suffer from it."""
    try:
        make(pool, device)
    except DriverError as error:
        return error
    return device


def _message(device: Device) -> str:
    thin, origin = device.handle.thin, device.origin
    return f"create_thin {thin}" if origin is None else f"create_snap {thin} {origin}"


def intend(
    pool: Pool, operation: str, subject: str, drafts: Sequence[Draft], *, group: str | None = None
) -> tuple[list[Device], int]:
    """Record what is to be made, if there is room for it.

    Return it and the ceiling to cover before. Raise NoSpaceError, UnavailableError.
    """
    adding = Bytes(sum(draft.size for draft in drafts if draft.kind is Kind.VOLUME))
    admit = capacity.admission(pool, operation, subject, adding)
    return pool.catalog.add(drafts, covered=pool.kernel_ceiling, group=group, admit=admit)


def make(pool: Pool, device: Device) -> None:
    """Send the message that makes a recorded device, blank or from its origin.

    Whether the pool has kept it is to be looked at afterwards (``ThinPool.confirm``), for several at once.

    No id is handed out twice. So one that is taken is data that the catalog does not know: it is quarantined, never
    taken back, and the pool takes no more changes. Raise UnavailableError then, KernelError for anything else.
    """
    thin = device.handle.thin
    try:
        if device.origin is None:
            pool.thin.create_thin(thin, confirm=False)
        else:
            pool.thin.create_snap(thin, device.origin, confirm=False)
    except KernelError as error:
        if error.errno != errno.EEXIST:
            raise
        pool.guard = Guard(f"the pool has a device that the catalog does not know ({device.handle})", REBUILD)
        pool.catalog.quarantine(device)
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
