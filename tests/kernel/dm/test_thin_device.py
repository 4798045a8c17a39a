"""Thin devices on a real kernel: activation after a crash, growth, freezing, deactivation."""

import errno
import os
import threading

import pytest

from csi.dm import block
from csi.dm.ioctl import Control
from csi.dm.targets import Linear, Thin
from csi.dm.thin_device import ThinDevice, ours, thaw_all
from csi.errors import KernelError, SizeError, StateError
from csi.model import Handle, PoolId, ThinId
from csi.units import MIB, Bytes, Sectors
from tests.kernel.conftest import POOL_ID, BarePool, Mount

_SIZE = Bytes(8 * MIB)


def test_activation_is_repeatable_and_gives_the_path(pool: BarePool) -> None:
    pool.create_thin(ThinId(1))
    device = pool.device(1)
    assert device.info() is None
    assert device.status() is None
    with pytest.raises(StateError, match="not active"):
        _ = device.path
    path = device.activate(pool.number, _SIZE)
    assert device.activate(pool.number, _SIZE) == path == device.path
    assert block.size(path) == _SIZE
    info = device.info()
    assert info is not None
    assert (info.name, info.uuid) == (f"thinpool-{POOL_ID}-1", f"THINPOOL-{POOL_ID}-1")
    status = device.status()
    assert status is not None
    assert (status.mapped, status.highest) == (0, None)
    device.deactivate()
    device.deactivate()
    assert device.info() is None


@pytest.mark.parametrize("stage", ["created", "loaded", "suspended", "growing", "suspended growing"])
def test_activation_finishes_what_a_crash_left(control: Control, pool: BarePool, stage: str) -> None:
    pool.create_thin(ThinId(1))
    device = pool.device(1)
    half = Thin(Bytes(_SIZE // 2), pool.number, 1).line()
    if stage in ("created", "loaded"):
        control.create(device.name, device.handle.uuid)
        if stage == "loaded":
            control.load(device.name, [half])
    else:
        device.activate(pool.number, _SIZE)
        if "growing" in stage:
            control.load(device.name, [Thin(Bytes(2 * _SIZE), pool.number, 1).line()])
        if "suspended" in stage:
            control.suspend(device.name)
    path = device.activate(pool.number, _SIZE)
    info = device.info()
    assert info is not None
    assert (info.suspended, info.has_live_table, info.has_inactive_table) == (False, True, False)
    assert block.size(path) == _SIZE


def test_activation_with_a_larger_size_grows_and_with_a_smaller_refuses(pool: BarePool) -> None:
    device = pool.activated(1, _SIZE)
    assert block.size(device.activate(pool.number, Bytes(2 * _SIZE))) == 2 * _SIZE
    with pytest.raises(SizeError, match="16MiB and cannot shrink to 8MiB"):
        device.activate(pool.number, _SIZE)
    assert block.size(device.path) == 2 * _SIZE


def test_a_device_that_the_pool_lacks_leaves_nothing_behind(pool: BarePool) -> None:
    with pytest.raises(KernelError, match=r"load table.*ENODATA"):
        pool.device(5).activate(pool.number, _SIZE)
    assert pool.device(5).info() is None


def test_another_table_under_our_name_is_left_alone(control: Control, pool: BarePool) -> None:
    pool.create_thin(ThinId(1))
    pool.create_thin(ThinId(2))
    device = pool.device(1)
    for table in (Thin(_SIZE, pool.number, 2).line(), Linear(Sectors(8), "/dev/dm-0").line()):
        control.create(device.name, device.handle.uuid)
        control.load(device.name, [table])
        control.resume(device.name)
        with pytest.raises(KernelError):
            device.activate(pool.number, _SIZE)
        assert control.table(device.name)[0].type == table.type
        control.remove(device.name)


def test_another_uuid_under_our_name_is_not_ours(control: Control, pool: BarePool) -> None:
    pool.create_thin(ThinId(1))
    control.create(pool.device(1).name, "SOMEBODY-else")
    for act in (pool.device(1).info, pool.device(1).deactivate, lambda: pool.device(1).activate(pool.number, _SIZE)):
        with pytest.raises(KernelError, match="not ours"):
            act()
    assert control.info_by_uuid("SOMEBODY-else") is not None


def test_a_mounted_device_grows_while_it_is_written(pool: BarePool, mount: Mount) -> None:
    device = pool.activated(1, Bytes(16 * MIB))
    target = mount(device.path)
    writer = _Writer(f"{target}/file")
    for size in (20, 24, 32):
        device.resize(Bytes(size * MIB))
        assert block.size(device.path) == size * MIB
        writer.await_progress()
    device.resize(Bytes(32 * MIB))
    with pytest.raises(SizeError):
        device.resize(Bytes(16 * MIB))
    writer.stop()


def test_a_resize_of_an_inactive_device_is_refused(pool: BarePool) -> None:
    pool.create_thin(ThinId(1))
    with pytest.raises(StateError, match="not active"):
        pool.device(1).resize(_SIZE)


def test_freeze_holds_a_writer_of_a_mounted_file_system_and_thaw_lets_it_go(pool: BarePool, mount: Mount) -> None:
    device = pool.activated(1, Bytes(16 * MIB))
    target = mount(device.path)
    writer = _Writer(f"{target}/file")
    writer.await_progress()
    device.freeze()
    info = device.info()
    assert info is not None
    assert info.suspended
    pool.create_snap(ThinId(2), ThinId(1))
    frozen_at = writer.count
    # One fsync may have been past the file system already; no second one gets through.
    assert not writer.progressed.wait(0.5) or writer.count <= frozen_at + 1
    device.thaw()
    writer.await_progress()
    writer.stop()
    # A frozen file system was whole on the disk: its snapshot has nothing to replay.
    snapshot = pool.device(2)
    path = snapshot.activate(pool.number, Bytes(16 * MIB))
    with open(path, "rb") as file:
        file.seek(1024 + 96)
        features = int.from_bytes(file.read(4), "little")
    assert not features & 4, "needs_recovery is set"


def test_an_open_device_stays_and_says_how_often_it_is_open(pool: BarePool) -> None:
    device = pool.activated(1, _SIZE)
    with open(device.path, "rb"), pytest.raises(StateError, match="open count 1") as caught:
        device.deactivate()
    assert caught.value.errno == errno.EBUSY
    assert device.info() is not None
    device.deactivate()


def test_deactivation_waits_for_who_holds_the_device_but_briefly(pool: BarePool) -> None:
    device = pool.activated(1, _SIZE)
    descriptor = os.open(device.path, os.O_RDONLY)
    timer = threading.Timer(0.3, os.close, [descriptor])
    timer.start()
    device.deactivate()
    timer.join()
    assert device.info() is None


def test_the_sweep_finds_our_devices_only_and_thaws_them(control: Control, pool: BarePool) -> None:
    for thin in (1, 2, 3):
        pool.activated(thin, _SIZE)
    other = ThinDevice(control, Handle(PoolId("otherpool2"), ThinId(1)))
    control.create(other.name, other.handle.uuid)
    control.load(other.name, [Linear(Sectors(8), "/dev/dm-0").line()])
    control.resume(other.name)
    control.create("thinpool-half-made", f"THINPOOL-{POOL_ID}-9")
    assert {info.name for info in ours(control, POOL_ID)} == {
        *(pool.device(thin).name for thin in (1, 2, 3)),
        "thinpool-half-made",
    }
    assert len(ours(control)) == 5
    for name in (pool.device(1).name, pool.device(3).name, other.name):
        control.suspend(name)
    assert set(thaw_all(control, POOL_ID)) == {pool.device(1).name, pool.device(3).name}
    assert thaw_all(control) == [other.name]
    assert thaw_all(control) == []


class _Writer:
    """A thread that writes and fsyncs a file again and again."""

    def __init__(self, path: str) -> None:
        self.count = 0
        self.progressed = threading.Event()
        self._stop = False
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, args=[path])
        self._thread.start()

    def _run(self, path: str) -> None:
        try:
            descriptor = os.open(path, os.O_CREAT | os.O_WRONLY)
            while not self._stop:
                os.pwrite(descriptor, b"%08d" % self.count * 512, 4096 * (self.count % 64))
                os.fsync(descriptor)
                self.count += 1
                self.progressed.set()
            os.close(descriptor)
        except OSError as error:
            self._error = error

    def await_progress(self) -> None:
        """Wait until it has written twice more: the second was begun after this call."""
        for _ in range(2):
            self.progressed.clear()
            assert self.progressed.wait(10), f"the writer is stuck ({self._error})"

    def stop(self) -> None:
        self._stop = True
        self._thread.join(10)
        assert not self._thread.is_alive()
        assert self._error is None
