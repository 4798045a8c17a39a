"""A real thin pool: its messages, its status, and whose data is in its blocks."""

import errno
import functools
import itertools
import os

import pytest

from csi.dm import block
from csi.dm.ioctl import Control
from csi.dm.targets import PoolMode
from csi.errors import KernelError, UnavailableError
from csi.model import ThinId
from csi.units import KIB, MIB, Bytes
from tests.kernel.conftest import BarePool, MakePool

_BLOCK = 64 * KIB


def test_a_pool_tells_number_block_size_and_status(control: Control, pool: BarePool) -> None:
    info = control.info("test-pool")
    assert info is not None
    assert pool.number == f"{info.major}:{info.minor}"
    assert pool.block_size == _BLOCK
    assert os.path.exists(pool.metadata_path)
    status = pool.status(flush=True)
    assert status.healthy
    assert (status.transaction_id, status.data_used, status.data_total) == (0, 0, 64 * MIB // _BLOCK)
    assert status.metadata_total == 8 * MIB // 4096
    assert 0 < status.metadata_used < status.metadata_total
    assert status.queue_if_no_space


def test_a_pool_that_is_not_active_is_unavailable(control: Control, pool: BarePool) -> None:
    control.remove("test-pool")
    with pytest.raises(UnavailableError, match="not active"):
        _ = pool.number
    with pytest.raises(KernelError, match="ENXIO"):
        pool.create_thin(ThinId(1))


def test_messages_answer_with_the_kernels_errno(pool: BarePool) -> None:
    pool.create_thin(ThinId(1))
    pool.create_snap(ThinId(2), ThinId(1))
    for message in (
        functools.partial(pool.create_thin, ThinId(1)),
        functools.partial(pool.create_snap, ThinId(2), ThinId(1)),
    ):
        with pytest.raises(KernelError, match="test-pool") as caught:
            message()
        assert caught.value.errno == errno.EEXIST
    with pytest.raises(KernelError) as caught:
        pool.create_snap(ThinId(3), ThinId(99))
    assert caught.value.errno == errno.ENODATA
    pool.delete(ThinId(2))
    with pytest.raises(KernelError) as caught:
        pool.delete(ThinId(2))
    assert caught.value.errno == errno.ENODATA
    with pytest.raises(KernelError) as caught:
        pool.create_thin(ThinId(1 << 24))
    assert caught.value.errno == errno.EINVAL


def test_an_active_device_cannot_be_deleted(pool: BarePool) -> None:
    pool.activated(1, Bytes(MIB))
    with pytest.raises(KernelError) as caught:
        pool.delete(ThinId(1))
    assert caught.value.errno == errno.EBUSY


def test_the_transaction_id_is_raised_from_the_right_number_only(pool: BarePool) -> None:
    pool.set_transaction_id(0, 1)
    assert pool.status().transaction_id == 1
    with pytest.raises(KernelError) as caught:
        pool.set_transaction_id(0, 2)
    assert caught.value.errno == errno.EINVAL
    pool.close()
    pool.open()
    assert pool.status().transaction_id == 1


def test_what_was_answered_is_there_after_a_new_start(pool: BarePool) -> None:
    pool.create_thin(ThinId(7))
    pool.close()
    pool.open()
    with pytest.raises(KernelError) as caught:
        pool.create_thin(ThinId(7))
    assert caught.value.errno == errno.EEXIST


def test_a_metadata_snapshot_is_released_whatever_happens(pool: BarePool) -> None:
    def fail() -> None:
        with pool.metadata_snap() as root:
            assert pool.status().held_root == root > 0
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert pool.status().held_root is None


def test_a_metadata_snapshot_of_a_dead_process_is_taken_away(pool: BarePool) -> None:
    pool.reserve_metadata_snap()
    with pool.metadata_snap() as root:
        assert root == pool.status().held_root
    with pytest.raises(KernelError) as caught:
        pool.release_metadata_snap()
    assert caught.value.errno == errno.EINVAL


def test_a_discard_gives_blocks_back(pool: BarePool) -> None:
    path = pool.activated(1, Bytes(16 * MIB)).path
    _write(path, b"x" * (4 * MIB))
    assert pool.status(flush=True).data_used == 4 * MIB // _BLOCK
    block.discard(path, Bytes(MIB), Bytes(2 * MIB))
    assert pool.status(flush=True).data_used == 2 * MIB // _BLOCK
    status = pool.device(1).status()
    assert status is not None
    assert status.mapped == 2 * MIB // 512
    descriptor = os.open(path, os.O_WRONLY)
    block.discard(descriptor, Bytes(0), Bytes(16 * MIB))
    os.close(descriptor)
    assert pool.status(flush=True).data_used == 0


def test_a_reused_block_holds_nothing_of_its_last_owner(pool: BarePool) -> None:
    """Fill the whole pool with a pattern, delete, write 4 KiB into each block of a new device, look at the rest."""
    first = pool.activated(1, Bytes(64 * MIB))
    _write(first.path, b"SECRET--" * (64 * MIB // 8))
    assert pool.status(flush=True).data_used == 64 * MIB // _BLOCK
    first.deactivate()
    pool.delete(ThinId(1))

    path = pool.activated(2, Bytes(64 * MIB)).path
    descriptor = os.open(path, os.O_WRONLY)
    for offset in range(0, 64 * MIB, _BLOCK):
        os.pwrite(descriptor, b"n" * 4096, offset)
    os.fsync(descriptor)
    os.close(descriptor)
    with open(path, "rb") as file:
        while piece := file.read(_BLOCK):
            assert piece == b"n" * 4096 + bytes(_BLOCK - 4096)


def test_a_message_that_leaves_the_pool_read_only_is_an_error(make_pool: MakePool) -> None:
    """Until the metadata is full: the message that meets the end may answer OK, and must not count as done."""
    pool = make_pool()
    ids = itertools.count()

    def fill() -> None:
        for _ in range(20_000):
            pool.create_thin(ThinId(next(ids)))

    with pytest.raises((UnavailableError, KernelError)) as caught:
        fill()
    assert pool.status().mode is PoolMode.READ_ONLY
    made = next(ids)
    assert made > 100
    assert caught.value.errno in (errno.EIO, errno.ENOSPC, errno.EOPNOTSUPP)
    with pytest.raises(KernelError) as refused:
        pool.create_thin(ThinId(made + 1))
    assert refused.value.errno == errno.EOPNOTSUPP


def _write(path: str, data: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY)
    try:
        assert os.write(descriptor, data) == len(data)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
