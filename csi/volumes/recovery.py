"""What a start does with the states that a crash left: replay, roll back, or stop and say why."""

import errno
from collections.abc import Sequence
from typing import Final

import structlog

from csi.dm import metadata
from csi.errors import DriverError, InvalidRequestError, KernelError, UnavailableError
from csi.failpoint import hit
from csi.model import SENTINEL, Claim, Device, FsState, Handle, Kind, State, ThinId
from csi.units import Bytes, round_up, sector_bytes
from csi.volumes.pool import PATIENCE, REBUILD, Guard, Pool
from csi.volumes.reports import Finding

_FAR: Final = 1 << 16
"""Ids that a pool may have handed out since its metadata was as it is: of all that there are, one in 256."""

log = structlog.get_logger()


def recover(pool: Pool) -> None:
    """Compare the pool with its catalog and bring open intents to an end; set the guard where they disagree.

    With a guard nothing is changed: no id is handed out, nothing is deleted, and the log says what to do.
    """
    try:
        present = _present(pool)
    except UnavailableError as error:
        # What is known can be used all the same.
        pool.guard = Guard(error.why, error.way_out)
    else:
        pool.guard = examine(pool, present)
    if pool.guard.why:
        log.error("pool takes no changes", pool=pool.spec.name, why=pool.guard.why, way_out=pool.guard.way_out)
        return
    # From here the catalog is the newest there is: what it calls open, nobody was told of.
    ceiling, _ = pool.catalog.ceiling()
    pool.cover(ceiling)
    hit("recover.after-cover")
    pool.catalog.begin_at(ceiling)
    hit("recover.after-begin")
    for group in pool.catalog.uncut_groups():
        log.info("group snapshot taken back", group=str(group.handle))
        pool.catalog.delete(group.members, group=group.handle.group)
    hit("recover.after-groups")
    for device in pool.catalog.devices(state=State.CUTTING):
        log.info("snapshot taken back", snapshot=str(device.handle))
        pool.catalog.delete([device])
    hit("recover.after-snapshots")
    for device in pool.catalog.devices(state=State.CREATING):
        _finish(pool, device, there=device.handle.thin in present)
    hit("recover.after-volumes")
    for device in pool.catalog.each(state=State.READY):
        if device.ephemeral and device.fs_state in (FsState.UNFORMATTED, FsState.FORMATTING, FsState.FRESH):
            log.info("ephemeral volume taken back", volume=str(device.handle))
            # It may be active, and a mkfs that outlived the crash still at work on it: giving back waits for that.
            pool.catalog.delete([device])
    _find_templates(pool, present)
    pool.reclaim_wanted.set()


def _find_templates(pool: Pool, present: set[ThinId]) -> None:
    """Take up the templates that are there. One that is not is no loss: the next volume of its shape makes another."""
    found = []
    for device in pool.catalog.devices(kind=Kind.TEMPLATE, state=State.READY):
        if device.handle.thin in present:
            found.append(device)
        else:
            pool.catalog.forget(device)
    if needless := pool.templates.fill(found):
        pool.catalog.delete(needless)


def _finish(pool: Pool, device: Device, *, there: bool) -> None:
    """Bring the making of a device of an idle origin, or of none, to an end."""
    if not there and device.origin is not None:
        pool.catalog.forget(device)
        return
    if not there:
        try:
            pool.thin.create_thin(device.handle.thin)
        except KernelError as error:
            if error.errno != errno.EEXIST:
                raise
    pool.catalog.ready([device])
    log.info("volume finished", volume=str(device.handle))


def examine(pool: Pool, present: set[ThinId]) -> Guard:
    """Compare the catalog with the thin devices that are ``present``; change nothing."""
    ceiling, covered = pool.catalog.ceiling()
    number = pool.thin.status().transaction_id
    known, missing = set(), set()
    for device in pool.catalog.each():
        known.add(device.handle.thin)
        if device.handle.thin not in present and device.state is State.READY and device.kind is not Kind.TEMPLATE:
            missing.add(device.handle.thin)
    unknown = present - known
    why = ""
    if number > ceiling:
        why = f"the catalog is older than the pool (ids up to {number} are taken, it knows {ceiling})"
    elif number < covered:
        why = (
            f"the pool is older than its catalog (its number is {number}, it was {covered}): its metadata was set back"
        )
    elif unknown:
        why = f"the pool has {len(unknown)} devices that the catalog does not know"
    elif missing:
        why = f"the catalog knows {len(missing)} devices that the pool does not have"
    return Guard(why, REBUILD if why else "", frozenset(missing), frozenset(unknown))


def findings(pool: Pool) -> list[Finding]:
    """Return every disagreement between catalog and pool, without changing anything."""
    # What is made or given back while we look is in one list and not in the other, rightly: so what the catalog knew
    # before or knows after is not unknown, and missing is only what was ready both before and after.
    before = {device.handle.thin: device.state for device in pool.catalog.each()}
    found = [Finding(pool.spec.name, "pool", pool.guard.why)] if pool.guard.why else []
    try:
        present = _present(pool)
    except UnavailableError as error:
        return [*found, Finding(pool.spec.name, "pool", str(error))]
    guard = examine(pool, present)
    for thin in sorted(guard.unknown - before.keys()):
        handle = Handle(pool.id, thin)
        found.append(Finding(pool.spec.name, str(handle), "in the pool, not in the catalog", handle))
    for thin in sorted(thin for thin in guard.missing if before.get(thin) is State.READY):
        handle = Handle(pool.id, thin)
        found.append(Finding(pool.spec.name, str(handle), "in the catalog, not in the pool: data lost", handle))
    lost = pool.catalog.devices(state=State.LOST)
    found += [
        Finding(pool.spec.name, str(each.handle), "lost: the pool has no data for it", each.handle) for each in lost
    ]
    return found


def rebuild(pool: Pool, claims: Sequence[Claim] = ()) -> list[str]:
    """Make the catalog agree with the pool and open it for changes again; return what was done, a line each.

    Nothing is deleted and nothing formatted. What is claimed becomes what the claim says. The pool's number is raised,
    so the old catalog can never pass again. Raise UnavailableError if the pool takes no messages, InvalidRequestError
    for a claim of an id that cannot have been handed out.
    """
    present = {thin: _least_size(pool, thin) for thin in _present(pool)}
    number = pool.thin.status().transaction_id
    _require_plausible(pool, claims, max(number, pool.catalog.ceiling()[0], *present))
    said = pool.catalog.rebuild(present, claims)
    hit("rebuild.after-rows")
    ceiling, _ = pool.catalog.ceiling()
    pool.kernel_ceiling = number
    above = max(ceiling, number) + 1
    pool.catalog.begin_at(number)
    hit("rebuild.after-begin")
    pool.thin.set_transaction_id(number, above)
    hit("rebuild.after-transaction-id")
    pool.kernel_ceiling = above
    pool.catalog.begin_at(above)
    pool.templates.fill(())
    pool.guard = Guard()
    pool.reclaim_wanted.set()
    return said


def _require_plausible(pool: Pool, claims: Sequence[Claim], highest: int) -> None:
    """See that no claim is far above the ``highest`` id that is known: what is below it is never handed out again."""
    for claim in claims:
        if claim.handle.thin > highest + _FAR:
            why = f"an object names {claim.handle}; no id above {highest} is known to have been handed out"
            raise InvalidRequestError("rebuild catalog", pool.spec.name, why, way_out="leave that object out")


def _present(pool: Pool) -> set[ThinId]:
    """Return the pool's devices, less the sentinel. Raise UnavailableError if the pool takes no messages."""
    try:
        return metadata.thin_ids(pool.thin) - {SENTINEL}
    except DriverError as error:
        if pool.thin.status().serves:
            raise
        why = f"the pool takes no messages, so it could not be compared with its catalog ({error})"
        way_out = "mend the pool (see 'thinpool-csi info'), then restart the node"
        raise UnavailableError("read pool", pool.spec.name, why, way_out=way_out) from error


def _least_size(pool: Pool, thin: ThinId) -> Bytes:
    """Return the least size that holds everything a thin device maps.

    Only an active device tells its last mapped sector, so one that is not is made active for a moment, in any size.
    """
    device = pool.device(thin)
    # In turn with those who stage it meanwhile.
    with pool.turns.turn("measure device", thin, patience=PATIENCE):
        was_active = device.info() is not None
        if not was_active:
            device.activate(pool.number, pool.block_size)
        try:
            status = device.status()
            if status is None or status.highest is None:
                return Bytes(0)
            return round_up(Bytes(sector_bytes(status.highest) + 1), pool.block_size)
        finally:
            if not was_active:
                device.deactivate()
