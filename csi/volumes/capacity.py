"""How much can still be created, and the guard that refuses what cannot.

Two limits hold at once. What is promised: the virtual sizes of all volumes stay below the pool's whole space (what it
has and what its VG can still give it) times the over-provisioning ratio. What is left: below the minimum free share of
data or of metadata no new volume or snapshot is made, however small; nor where the catalog has no room for it.
"""

from dataclasses import dataclass
from typing import Final

from csi.catalog.store import Admit
from csi.errors import NoSpaceError, SizeError, UnavailableError
from csi.units import MIB, SECTOR, TIB, Blocks, Bytes, block_bytes, format_size, round_down, round_up
from csi.volumes.pool import ENDING, Pool
from csi.volumes.reports import Capacity, PoolSpace

MINIMUM: Final = Bytes(1 * MIB)
MAXIMUM: Final = Bytes(1024 * TIB)
_CATALOG_ROOM: Final = Bytes(8 * MIB)
"""SQLite's log takes 4 MiB, and what is there must always find room to be used and deleted."""
_WAY_OUT: Final = "add a disk to the pool, delete volumes or snapshots, or change the pool's limits"


@dataclass(frozen=True)
class Shortage:
    """A kind of space of which too little is left for anything new."""

    reason: str
    """The condition's."""
    why: str
    """With the figures."""
    way_out: str = _WAY_OUT


def shortages(pool: Pool, space: PoolSpace) -> list[Shortage]:
    """Return the kinds of space that are below their minimum. Raise UnavailableError."""
    found = []
    share = pool.spec.min_free_space_percent
    data_free = space.data_total - space.data_used + space.extendable
    data_all = space.data_total + space.extendable
    if data_free * 100 < share * data_all:
        free, whole = (format_size(block_bytes(Blocks(count), pool.block_size)) for count in (data_free, data_all))
        found.append(Shortage("DataSpaceLow", f"{free} of {whole} of data space are free, less than {share} %"))
    meta_free = space.metadata_total - space.metadata_used + space.metadata_extendable
    meta_all = space.metadata_total + space.metadata_extendable
    if meta_free * 100 < share * meta_all:
        why = f"{meta_free} of {meta_all} metadata blocks are free, less than {share} %"
        found.append(Shortage("MetadataSpaceLow", why))
    room = pool.catalog.room(_CATALOG_ROOM)
    if room is not None and room < _CATALOG_ROOM:
        why = f"{format_size(room)} are free for the catalog, less than {format_size(_CATALOG_ROOM)}"
        found.append(Shortage("CatalogSpaceLow", why, "delete volumes or snapshots"))
    return found


def promisable(pool: Pool, space: PoolSpace) -> Bytes:
    """Return the virtual bytes that all volumes together may have."""
    whole = block_bytes(space.data_total, pool.block_size) + block_bytes(space.extendable, pool.block_size)
    return Bytes(int(whole * pool.spec.overprovision_ratio))


def capacity(pool: Pool) -> Capacity:
    """Return what CreateVolume would still accept, which is exactly what it enforces."""
    status = pool.thin.status()
    space = pool.space(status)
    if pool.guard.why or not status.healthy or shortages(pool, space) or not pool.catalog.ids_left():
        return Capacity(Bytes(0), Bytes(0), MINIMUM)
    unpromised = promisable(pool, space) - pool.catalog.counts().virtual
    left = round_down(Bytes(max(0, unpromised)), MIB)
    return Capacity(left, Bytes(min(left, MAXIMUM)), MINIMUM)


def admission(pool: Pool, operation: str, subject: str, adding: Bytes) -> Admit:
    """Return what the catalog asks, at the very moment, whether the pool may promise ``adding`` bytes more.

    So no two requests are promised the same space. Raise NoSpaceError where there is no room for any device.
    """
    space = pool.space(pool.healthy_status(operation, subject))
    for short in shortages(pool, space):
        raise NoSpaceError(operation, subject, f"pool {pool.spec.name}: {short.why}", way_out=short.way_out)
    most = promisable(pool, space)

    def admit(promised: Bytes) -> None:
        # It may have been taken out of service since the request began.
        pool.require_open(operation, subject)
        if pool.ending:
            raise UnavailableError(operation, subject, f"pool {pool.spec.name}: {ENDING}", way_out="use another pool")
        left = Bytes(max(0, most - promised))
        if adding > left:
            raise NoSpaceError(
                operation,
                subject,
                f"pool {pool.spec.name} can promise {format_size(left)} more at an over-provisioning ratio of"
                f" {pool.spec.overprovision_ratio:g}, {format_size(adding)} were asked for",
                way_out=_WAY_OUT,
            )

    return admit


def choose_size(operation: str, subject: str, required: Bytes, limit: Bytes, least: Bytes) -> Bytes:
    """Return the size that fits ``required`` and ``limit`` (0: none) and is not below ``least``.

    A whole number of MiB where the limit allows, else of sectors. Raise SizeError if nothing fits.
    """
    wanted = Bytes(max(required, least, MINIMUM if not limit or limit >= MINIMUM else SECTOR))
    if wanted > MAXIMUM:
        raise SizeError(operation, subject, f"{wanted} bytes are more than the greatest size, {MAXIMUM}")
    for step in (MIB, Bytes(SECTOR)):
        size = round_up(wanted, step)
        if not limit or size <= limit:
            return size
    raise SizeError(
        operation, subject, f"no size fits: at least {wanted} bytes are needed, at most {limit} are allowed"
    )
