"""What thin_ls says of a pool that is in use."""

import os

from csi.dm.metadata import Mapping, mappings, thin_ids
from csi.model import ThinId
from csi.units import KIB, MIB, Blocks, Bytes
from tests.kernel.conftest import BarePool


def test_ids_and_mappings_of_a_pool_in_use(pool: BarePool) -> None:
    assert thin_ids(pool) == set()
    path = pool.activated(1, Bytes(8 * MIB)).path
    _write(path, 0, 4)
    pool.create_snap(ThinId(2), ThinId(1))
    pool.create_thin(ThinId(3))
    _write(path, 3, 2)
    assert thin_ids(pool) == {1, 2, 3}
    assert mappings(pool) == {
        ThinId(1): Mapping(Blocks(5), Blocks(2)),
        ThinId(2): Mapping(Blocks(4), Blocks(1)),
        ThinId(3): Mapping(Blocks(0), Blocks(0)),
    }
    assert pool.status().held_root is None


def _write(path: str, start: int, count: int) -> None:
    descriptor = os.open(path, os.O_WRONLY)
    try:
        os.pwrite(descriptor, b"x" * (count * 64 * KIB), start * 64 * KIB)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
