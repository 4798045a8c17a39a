"""What one volume has held, no other may ever show."""

import os

from csi.dm import block
from csi.units import KIB, MIB
from tests.kernel.conftest import run
from tests.kernel.volumes.conftest import MakeServed
from tests.kernel.volumes.served import Served

_BLOCK = 64 * KIB
_TOUCH = 4 * KIB
_SIZE = 128 * MIB
_PATTERN = b"another tenant's"
_OWN = b"\x01" * _TOUCH


def test_new_volumes_over_the_space_of_a_deleted_one_show_nothing_of_it(make_served: MakeServed) -> None:
    # The disk takes no discards, so what was written stays on it until it is written over.
    served = make_served(268, discards=False, min_free_space_percent=0)
    first = served.create("first", _SIZE, block=True)
    with open(served.staged(first), "wb", buffering=0) as device:
        device.writelines(_PATTERN * (MIB // len(_PATTERN)) for _ in range(_SIZE // MIB))
    served.unstage(first)
    served.node.delete_volume(first.handle)
    served.reclaimed()
    there = _patterned(served)
    assert there >= _SIZE // _BLOCK

    seconds = [served.create(f"second-{number}", _SIZE // 2, block=True) for number in (1, 2)]
    for place, volume in enumerate(seconds):
        with open(served.staged(volume), "r+b", buffering=0) as device:
            for number in range(_SIZE // 2 // _BLOCK):
                # At the start of a block, in its middle, at its end.
                device.seek(number * _BLOCK + (number + place) % 16 * _TOUCH)
                device.write(_OWN)
        # What is read next comes from the pool.
        served.unstage(volume)
    # The same blocks again: the pool has not room enough for others.
    assert _patterned(served) < there - _SIZE // _BLOCK // 2

    for place, volume in enumerate(seconds):
        with open(served.staged(volume), "rb", buffering=0) as device:
            for number in range(_SIZE // 2 // _BLOCK):
                content = device.read(_BLOCK)
                at = (number + place) % 16 * _TOUCH
                assert content[at : at + _TOUCH] == _OWN
                assert not any(content[:at])
                assert not any(content[at + _TOUCH :])
        served.unstage(volume)


def _patterned(served: Served) -> int:
    """Count the blocks of the pool's data that begin with the pattern, on the disk itself."""
    run("sync")
    count = 0
    with open(block.node(served.pool.thin.table.data), "rb", buffering=0) as data:
        # What was read before is still in memory.
        os.posix_fadvise(data.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        while content := data.read(_BLOCK):
            count += content.startswith(_PATTERN)
    return count
