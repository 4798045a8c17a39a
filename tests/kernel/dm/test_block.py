"""Block devices: size, flags, discards, and the lock of a pool's server."""

import errno
import os
import signal
import sys
from pathlib import Path

import pytest

from csi.dm import block
from csi.errors import KernelError, PoolBusyError
from csi.units import KIB, MIB, Bytes
from tests.kernel.conftest import MakeDisk, detached, run

_SIZE = Bytes(4 * MIB)


def test_size_and_flags_are_the_kernels(make_disk: MakeDisk) -> None:
    disk = make_disk(_SIZE)
    assert block.size(disk) == _SIZE
    assert not block.read_only(disk)
    run("blockdev", "--setro", disk)
    assert block.read_only(disk)
    run("blockdev", "--setrw", disk)
    number = os.stat(disk).st_rdev
    assert block.node(f"{os.major(number)}:{os.minor(number)}") == disk


def test_a_discard_reads_as_zeros_and_only_where_it_was_asked_for(make_disk: MakeDisk) -> None:
    disk = make_disk(_SIZE)
    with open(disk, "wb") as file:
        file.write(b"x" * _SIZE)
    block.discard(disk, Bytes(64 * KIB), Bytes(MIB))
    with open(disk, "rb") as file:
        data = file.read()
    assert data == b"x" * (64 * KIB) + bytes(MIB) + b"x" * (_SIZE - MIB - 64 * KIB)


def test_a_device_that_is_zeroed_reads_as_zeros(make_disk: MakeDisk) -> None:
    disk = make_disk(_SIZE)
    with open(disk, "wb") as file:
        file.write(b"x" * _SIZE)
    block.zero(disk)
    with open(disk, "rb") as file:
        assert file.read() == bytes(_SIZE)


def test_a_lock_file_serves_as_well(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = f"{tmp_path}/lock"
    with open(path, "x"):
        pass
    monkeypatch.setattr("csi.dm.block._LOCK_PATIENCE", 0.2)
    with block.exclusive(path), pytest.raises(PoolBusyError), block.exclusive(path):
        pytest.fail("two hold the lock")


def test_what_is_no_block_device_is_refused(make_disk: MakeDisk, tmp_path: Path) -> None:
    path = f"{tmp_path}/file"
    with open(path, "x"):
        pass
    with pytest.raises(KernelError) as caught:
        block.size(path)
    assert caught.value.errno == errno.ENOTBLK
    with pytest.raises(KernelError, match="ENOENT"):
        block.size(f"{path}-missing")
    with pytest.raises(KernelError, match="discard"):
        block.discard(make_disk(_SIZE), Bytes(0), Bytes(_SIZE * 2))
    with pytest.raises(KernelError, match="look up block device"):
        block.node("4095:77")


def test_one_process_holds_the_lock_and_its_death_gives_it_free(
    make_disk: MakeDisk, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = make_disk(_SIZE)
    program = (
        "import signal, sys; from csi.dm import block\n"
        "with block.exclusive(sys.argv[1]):\n"
        "    print('held', flush=True); signal.pause()\n"
    )
    with detached(sys.executable, "-c", program, disk) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        monkeypatch.setattr("csi.dm.block._LOCK_PATIENCE", 0.2)
        with pytest.raises(PoolBusyError, match="another process"), block.exclusive(disk):
            pytest.fail("two hold the lock")
        holder.send_signal(signal.SIGKILL)
        holder.wait(30)
    with block.exclusive(disk) as descriptor:
        assert descriptor > 2
    with block.exclusive(disk):
        pass
