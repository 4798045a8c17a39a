"""Reads and writes of a thin volume whose blocks are allocated, beside a linear volume."""

import mmap
import os
import random
from collections import defaultdict
from collections.abc import Iterator
from typing import Final

from bench.our_pool import fill
from bench.rig import Rig
from bench.sample import Sample, timed
from csi.units import KIB, MIB, Bytes

_SIZE: Final = Bytes(512 * MIB)
_SIZES: Final = (("4k", Bytes(4 * KIB)), ("64k", Bytes(64 * KIB)))
_CALLS: Final = 500
"""At a time, before it is the other's turn."""


def run(rig: Rig) -> None:
    """Read and write both past the page cache, one call at a time, in turns."""
    ours, lvm = rig.ours, rig.lvm
    rounds = rig.few(10, 1)
    volume = ours.served.create(ours.name("data"), _SIZE, block=True)
    name = lvm.name()
    linear = lvm.linear(name, _SIZE)
    fill(linear, _SIZE)
    seconds: defaultdict[tuple[str, str], list[float]] = defaultdict(list)
    with ours.served.raw(volume) as thin:
        fill(thin, _SIZE)
        for number in range(rounds):
            rig.report.tell(f"reads and writes, round {number + 1} of {rounds}")
            for label, size in _SIZES:
                for what in ("read", "write"):
                    for kind, path in (("thin", thin), ("linear", linear)):
                        seconds[f"{what}_{label}", kind] += _calls(path, size, number, write=what == "write")
    lvm.remove(name)
    ours.clear()
    for what in ("read", "write"):
        for label, _ in _SIZES:
            ours_took, theirs = (Sample.of(seconds[f"{what}_{label}", kind]) for kind in ("thin", "linear"))
            value = ours_took.median / theirs.median
            rig.report.add(f"data_path_{what}_{label}", value, thin=ours_took, linear=theirs)


def _calls(path: str, size: Bytes, seed: int, *, write: bool) -> Iterator[float]:
    """Make calls of ``size`` bytes on a device: small ones anywhere, large ones in order; yield their seconds."""
    dice = random.Random(seed)  # noqa: S311 - the same places for both
    page = mmap.mmap(-1, size)
    page.write(os.urandom(size))
    count = _SIZE // size
    first = dice.randrange(count)
    descriptor = os.open(path, os.O_RDWR | os.O_DIRECT)
    try:
        for number in range(_CALLS):
            place = (dice.randrange(count) if size < 64 * KIB else (first + number) % count) * size
            if write:
                yield timed(lambda place=place: os.pwrite(descriptor, page, place))  # type: ignore[misc]
            else:
                yield timed(lambda place=place: os.preadv(descriptor, [page], place))  # type: ignore[misc]
    finally:
        os.close(descriptor)
