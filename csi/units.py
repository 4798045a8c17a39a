"""Bytes, sectors and thin blocks as different types, and sizes as people write them.

The kernel counts device-mapper tables in sectors of 512 bytes (include/linux/blk_types.h, ``SECTOR_SIZE``), a thin
pool counts its space in blocks of a size fixed when the pool is made, and CSI counts in bytes. Mixing them up is
how a volume gets 512 times too small, so each has its own type and the conversions live here.
"""

import re
from typing import Final, NewType

Bytes = NewType("Bytes", int)
Sectors = NewType("Sectors", int)
Blocks = NewType("Blocks", int)

SECTOR: Final = 512

KIB: Final = Bytes(1 << 10)
MIB: Final = Bytes(1 << 20)
GIB: Final = Bytes(1 << 30)
TIB: Final = Bytes(1 << 40)

_FACTORS: Final = {
    "": 1,
    "k": 1000,
    "M": 1000**2,
    "G": 1000**3,
    "T": 1000**4,
    "P": 1000**5,
    "Ki": 1 << 10,
    "Mi": 1 << 20,
    "Gi": 1 << 30,
    "Ti": 1 << 40,
    "Pi": 1 << 50,
}
# Kubernetes writes 10Gi, Docker wrote 100GiB; both are meant in the same way and both are accepted.
_SIZE: Final = re.compile(r"(\d{1,15})(?:\.(\d{1,6}))?\s*(|[kMGTP]|[KMGTP]i)(?:B)?")


def sectors(size: Bytes) -> Sectors:
    """Return ``size`` in sectors. Raise ValueError if it is not a whole number of them."""
    if size % SECTOR:
        message = f"{size} bytes is not a whole number of {SECTOR}-byte sectors"
        raise ValueError(message)
    return Sectors(size // SECTOR)


def sector_bytes(count: Sectors) -> Bytes:
    """Return ``count`` sectors in bytes."""
    return Bytes(count * SECTOR)


def block_bytes(count: Blocks, block_size: Bytes) -> Bytes:
    """Return ``count`` thin blocks of ``block_size`` in bytes."""
    return Bytes(count * block_size)


def blocks_up(size: Bytes, block_size: Bytes) -> Blocks:
    """Return how many thin blocks of ``block_size`` are needed to hold ``size``."""
    return Blocks(-(-size // block_size))


def round_up(size: Bytes, step: Bytes) -> Bytes:
    """Return the smallest multiple of ``step`` that is not below ``size``."""
    return Bytes(-(-size // step) * step)


def round_down(size: Bytes, step: Bytes) -> Bytes:
    """Return the largest multiple of ``step`` that is not above ``size``."""
    return Bytes(size // step * step)


def parse_size(text: str | int) -> Bytes:
    """Read a size: a number of bytes, a Kubernetes quantity (``10Gi``, ``64Ki``, ``5G``) or Docker's form (``100GiB``).

    Raise ValueError for anything else, for a negative size and for a fraction that is no whole number of bytes.
    """
    if isinstance(text, bool) or not isinstance(text, int | str):
        message = f"not a size: {text!r}"
        raise ValueError(message)  # noqa: TRY004 - every bad size is a ValueError, whatever its type
    if isinstance(text, int):
        if text < 0:
            message = f"a size cannot be negative: {text}"
            raise ValueError(message)
        return Bytes(text)
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        message = f"not a size: {text!r} (write 10Gi, 64Ki, 100GiB or a number of bytes)"
        raise ValueError(message)
    whole, fraction, unit = match.groups()
    factor = _FACTORS[unit]
    size = int(whole) * factor
    if fraction:
        part, rest = divmod(int(fraction) * factor, 10 ** len(fraction))
        if rest:
            message = f"{text!r} is not a whole number of bytes"
            raise ValueError(message)
        size += part
    return Bytes(size)


def format_size(size: int) -> str:
    """Write ``size`` bytes for a person: ``0B``, ``64KiB``, ``1.5GiB`` (binary units, at most four digits)."""
    if abs(size) < KIB:
        return f"{size}B"
    value = float(size)
    for unit in ("KiB", "MiB", "GiB", "TiB"):
        value /= KIB
        if abs(value) < KIB:
            return f"{value:.4g}{unit}"
    return f"{value / KIB:.4g}PiB"
