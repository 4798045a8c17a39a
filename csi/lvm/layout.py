"""How a pool's space is divided, and what is left to extend it into. Pure arithmetic.

Docker gave the data 95 % of the VG and the metadata 1 % (moby, ``setupDirectLVM``: ``lvcreate -l 95%VG``). LVM adds a
spare as large as the metadata, for repairs. From the 3 % that are left comes the catalog's LV; the rest is what the
pool can be extended into. Data never takes all of it: metadata that cannot grow any more stops a pool for good, while
metadata that can grow again brings it back.
"""

from dataclasses import dataclass
from typing import Final

from csi.errors import SizeError
from csi.units import MIB, Bytes, format_size, round_down, round_up

EXTENT: Final = Bytes(4 * MIB)
"""LVM's default, also for huge disks: LVM 2 has no limit on their number (vgcreate(8))."""

CATALOG: Final = Bytes(128 * MIB)
CATALOG_MINIMUM: Final = Bytes(32 * MIB)
"""ext4 with its journal, and SQLite with its write-ahead log."""

METADATA_MINIMUM: Final = Bytes(32 * MIB)
METADATA_MAXIMUM: Final = Bytes(16176 * MIB)
"""15.8 GiB: the kernel uses no more than 255 bitmaps of 4 KiB blocks (drivers/md/dm-thin-metadata.h)."""
METADATA_STEP_MINIMUM: Final = Bytes(8 * MIB)

DATA_MINIMUM: Final = Bytes(64 * MIB)


@dataclass(frozen=True)
class PoolSizes:
    """The sizes of a new pool, in bytes, each a whole number of extents."""

    data: Bytes
    metadata: Bytes
    """LVM makes a spare of the same size besides."""
    catalog: Bytes


@dataclass(frozen=True)
class Room:
    """What a pool can still be extended by."""

    data: Bytes
    """Free extents that data may take: what metadata needs for its own extension is not among them."""
    metadata: Bytes
    """By how much the metadata can grow; the spare copy that grows with it is already taken off."""


def direct_sizes(total: Bytes, thinp_percent: float, thinp_meta_percent: float, extend_percent: int) -> PoolSizes:
    """Divide a VG of ``total`` extent bytes as Docker did; ``extend_percent`` is the step of later extensions.

    Raise SizeError if what is left for data is under 64 MiB.
    """
    metadata = _clamp(_share(total, thinp_meta_percent), METADATA_MINIMUM, METADATA_MAXIMUM)
    catalog = _clamp(_share(total, 1), CATALOG_MINIMUM, CATALOG)
    left = Bytes(total - catalog - 2 * metadata - _metadata_reserve(metadata, extend_percent))
    return _checked(PoolSizes(min(_share(total, thinp_percent), left), metadata, catalog), total)


def loop_sizes(data_total: Bytes, metadata_total: Bytes) -> PoolSizes:
    """Divide two PVs: data has the first for itself, the second holds metadata, its spare, and the catalog.

    A fifth of the second is left for the metadata to be extended into. Raise SizeError if that is too small.
    """
    catalog = _clamp(_share(metadata_total, 8), CATALOG_MINIMUM, CATALOG)
    metadata = min(_share(Bytes(metadata_total - catalog), 40), METADATA_MAXIMUM)
    if metadata < METADATA_MINIMUM:
        raise SizeError(
            "lay out", "pool", f"a metadata file of {format_size(metadata_total)} is too small", way_out="256Mi will do"
        )
    return _checked(PoolSizes(round_down(data_total, EXTENT), metadata, catalog), data_total)


def data_step(data: Bytes, percent: int) -> Bytes:
    """Return by how much data of the size ``data`` is extended at once: ``percent`` of it, in whole extents."""
    return round_up(Bytes(-(-data * percent // 100)), EXTENT)


def metadata_step(metadata: Bytes, percent: int) -> Bytes:
    """Return by how much metadata is extended at once: ``percent`` of it, 8 MiB at least, up to the kernel's limit."""
    step = max(round_up(Bytes(-(-metadata * percent // 100)), EXTENT), METADATA_STEP_MINIMUM)
    return max(Bytes(0), min(step, Bytes(METADATA_MAXIMUM - metadata)))


def direct_room(free: Bytes, metadata: Bytes, percent: int) -> Room:
    """Return what a pool can be extended by out of ``free`` extents of its VG."""
    data = max(0, free - _metadata_reserve(metadata, percent))
    return Room(round_down(Bytes(data), EXTENT), _metadata_room(free, metadata))


def loop_room(data_free: Bytes, metadata_free: Bytes, metadata: Bytes) -> Room:
    """Return what a loop-lvm pool can be extended by: each of its two files has extents of its own."""
    return Room(round_down(data_free, EXTENT), _metadata_room(metadata_free, metadata))


def no_extension_room(room: Room, data_size: Bytes, percent: int) -> bool:
    """Tell whether less than one extension of ``percent`` of ``data_size`` is left (condition ``NoExtensionRoom``)."""
    return room.data < data_step(data_size, percent)


def _metadata_room(free: Bytes, metadata: Bytes) -> Bytes:
    # Half: LVM grows the spare along with the metadata (lvmthin(7), "Spare metadata LV").
    return max(Bytes(0), min(round_down(Bytes(free // 2), EXTENT), Bytes(METADATA_MAXIMUM - metadata)))


def _metadata_reserve(metadata: Bytes, percent: int) -> Bytes:
    return Bytes(2 * metadata_step(metadata, percent))


def _share(total: Bytes, percent: float) -> Bytes:
    """Return ``percent`` of ``total``, rounded down to extents as LVM rounds ``-l N%VG``."""
    # Only here: pools are seldom made.
    from fractions import Fraction  # noqa: PLC0415

    return round_down(Bytes(int(total * Fraction(str(percent)) / 100)), EXTENT)


def _clamp(size: Bytes, low: Bytes, high: Bytes) -> Bytes:
    return max(low, min(size, high))


def _checked(sizes: PoolSizes, total: Bytes) -> PoolSizes:
    if sizes.data < DATA_MINIMUM:
        raise SizeError(
            "lay out",
            "pool",
            f"of {format_size(total)} only {format_size(max(0, sizes.data))} would be left for data",
            way_out="give it larger disks, or a smaller thinpMetaPercent",
        )
    return sizes
