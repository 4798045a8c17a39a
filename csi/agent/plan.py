"""What is to be done for a pool, from how it is: a pure function, so that every case can be tried without a disk."""

from dataclasses import dataclass
from typing import Final

from csi.dm.targets import PoolMode
from csi.settings import Autoextend
from csi.units import MIB, Blocks, Bytes, block_bytes
from csi.volumes.pool import METADATA_BLOCK
from csi.volumes.reports import PoolSpace

_WHOLE: Final = 100
REFILL_STEP: Final = Bytes(64 * MIB)


@dataclass(frozen=True)
class Look:
    """A pool at one look."""

    mode: PoolMode
    needs_check: bool
    space: PoolSpace
    block_size: Bytes
    ballast: Bytes
    ballast_wanted: Bytes
    freeze_stuck: bool
    """Whether a freeze holds up the extension longer than any freeze may last, or the last extension failed."""


@dataclass(frozen=True)
class ExtendData:
    """Extend the data by so much, or by what there is."""

    step: Bytes


@dataclass(frozen=True)
class ExtendMetadata:
    """Extend the metadata by so much, or by what there is."""

    step: Bytes


@dataclass(frozen=True)
class DropBallast:
    """Give the ballast to the pool."""


@dataclass(frozen=True)
class RefillBallast:
    """Map so much more ballast."""

    step: Bytes


Step = ExtendData | ExtendMetadata | DropBallast | RefillBallast


def plan(look: Look, autoextend: Autoextend, min_free_percent: int) -> list[Step]:
    """Return what is to be done now, in this order.

    Metadata first: a pool without it goes read-only, one without data only waits. Nothing is done for a pool whose
    metadata must be checked, for there an extension answers OK and changes nothing.
    """
    if look.needs_check or look.mode is PoolMode.FAIL:
        return []
    space = look.space
    steps: list[Step] = []
    if _reached(space.metadata_used, space.metadata_total, autoextend.threshold) and space.metadata_extendable:
        step = max(1, space.metadata_total * autoextend.percent // _WHOLE)
        steps.append(ExtendMetadata(Bytes(step * METADATA_BLOCK)))
    full = look.mode is PoolMode.OUT_OF_DATA_SPACE
    wanted = full or _reached(space.data_used, space.data_total, autoextend.threshold)
    if wanted and autoextend.threshold < _WHOLE and space.extendable and not look.freeze_stuck:
        step = max(1, space.data_total * autoextend.percent // _WHOLE)
        steps.append(ExtendData(block_bytes(Blocks(step), look.block_size)))
    elif full and look.ballast:
        steps.append(DropBallast())
    if not steps and look.mode is PoolMode.READ_WRITE and look.ballast < look.ballast_wanted:
        # Ballast may not push the pool over its own limits: it is filled only where a good deal more is free.
        free_after = space.data_total - space.data_used + space.extendable - look.ballast_wanted // look.block_size
        spare = 2 * min_free_percent * (space.data_total + space.extendable)
        if free_after * _WHOLE > spare and not _reached(space.data_used, space.data_total, autoextend.threshold):
            steps.append(RefillBallast(Bytes(min(REFILL_STEP, look.ballast_wanted - look.ballast))))
    return steps


def _reached(used: int, total: int, threshold: int) -> bool:
    return threshold < _WHOLE and used * _WHOLE >= threshold * total
