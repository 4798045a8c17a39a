"""One ioctl that does not come back holds up nobody else."""

import mmap
import os
import threading
from pathlib import Path

from csi.dm.ioctl import Control
from csi.dm.targets import Linear
from csi.model import ThinId
from csi.units import MIB, Bytes, sectors
from tests.kernel.conftest import BarePool, MakeDisk, detached, wait_until

_SIZE = Bytes(8 * MIB)


def test_other_threads_go_on_while_a_suspend_waits(control: Control, make_disk: MakeDisk, pool: BarePool) -> None:
    """A suspend waits for I/O that is held up below, until it is let go.

    The other threads must get all of their work done before that. Were the interpreter's lock kept during the ioctl,
    they would not even begin, and find it over: another process lets it go after a minute.
    """
    disk = make_disk(_SIZE)
    for name, below in (("test-below", disk), ("test-above", "/dev/mapper/test-below")):
        control.create(name)
        control.load(name, [Linear(sectors(_SIZE), _node(control, below)).line()])
        control.resume(name)
    control.suspend("test-below", flush=False, lockfs=False)
    writer = threading.Thread(target=_write_direct, args=[_node(control, "/dev/mapper/test-above")])
    writer.start()
    inflight = Path("/sys/block", os.path.basename(_node(control, "/dev/mapper/test-above")), "inflight")
    wait_until(lambda: any(map(int, inflight.read_text().split())), 30)

    with detached("sh", "-c", "sleep 60; dmsetup --noudevsync resume test-below"):
        begun, ended = threading.Event(), threading.Event()

        def suspend() -> None:
            begun.set()
            control.suspend("test-above")
            ended.set()

        stalled = threading.Thread(target=suspend)
        stalled.start()
        assert begun.wait(30)
        done_while_stalled = 0
        while not ended.wait(0.005) and done_while_stalled < 60:
            pool.create_thin(ThinId(done_while_stalled))
            assert pool.status().healthy
            assert control.info("test-above") is not None
            done_while_stalled += 1
        assert not ended.is_set(), f"only {done_while_stalled} rounds of requests before the stalled one came back"
        assert done_while_stalled == 60
        assert writer.is_alive()
        control.resume("test-below")
        assert ended.wait(30)
    stalled.join()
    control.resume("test-above")
    writer.join(30)
    assert not writer.is_alive()


def _node(control: Control, path: str) -> str:
    """Return ``path``, or for a name under /dev/mapper the node that exists without udev."""
    info = control.info(path.rpartition("/")[2])
    return info.path if info is not None else path


def _write_direct(path: str) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_DIRECT)
    try:
        with mmap.mmap(-1, MIB) as buffer:
            os.pwrite(descriptor, buffer, 0)
    finally:
        os.close(descriptor)
