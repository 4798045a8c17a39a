"""The pool under test: served by this process as ``thinpool-csi node`` serves it."""

import itertools
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from prometheus_client import CollectorRegistry

from bench.limit import Commits, EmptyServer, Messages
from csi.agent.metrics import Calls
from csi.dm.freezer import Freezer
from csi.fs import mountinfo
from csi.model import Device, Handle, State
from csi.rpc.server import node_server
from csi.settings import PoolSpec
from csi.units import KIB, MIB, Bytes
from csi.volumes.pool import Pool
from tests.kernel.conftest import run, wait_until
from tests.kernel.volumes.served import Served

SIZE: Final = Bytes(64 * MIB)
"""Of a volume, where it does not matter."""
MAPPED: Final = Bytes(4 * MIB)
"""64 blocks: what a volume holds that others are cut from."""

_GRACE: Final = 5.0
_RECLAIM: Final = 1800.0


def pool_spec(name: str, disk: str) -> PoolSpec:
    """Return a pool on ``disk`` that promises as much as anybody asks for."""
    return PoolSpec(name, devices=(disk,), overprovision_ratio=1000.0)


class OurPool:
    """A node with one pool, its agent, its server, and beside that what cannot be avoided."""

    def __init__(self, name: str, disk: str, base: Path, freezer: Freezer) -> None:
        base.mkdir()
        self.served = Served(base, pool_spec(name, disk), freezer)
        self._names = itertools.count()
        self.open()

    def open(self) -> None:
        """Open the pool, making it if there is none, and serve it."""
        self.served.open()
        self._stopped = False
        self.socket = str(self.served.base / "csi.sock")
        # The calls are counted as by a node with metrics.
        self._server = node_server(self.served.node, self.socket, Calls(CollectorRegistry()).observe)
        self._server.start()
        self._empty = EmptyServer(self.served.base / "empty.sock")
        self.empty_socket = self._empty.socket
        self.commits = Commits(self.pool)
        self.messages = Messages(self.pool)

    def stop(self) -> None:
        """Let go of the pool; its devices stay."""
        self._server.stop(_GRACE)
        self._empty.stop()
        self.commits.close()
        run_dir = self.served.place.run_dir
        self.served.stop()
        unmount_catalogs(run_dir)
        self._stopped = True

    @contextmanager
    def released(self) -> Iterator[None]:
        """Leave the pool to another process for the body."""
        self.stop()
        yield
        self.open()

    def remove(self) -> None:
        """Take the pool off its disk, with all that it holds."""
        if self._stopped:
            # What had it meanwhile failed.
            self.open()
        self._server.stop(_GRACE)
        self._empty.stop()
        self.commits.close()
        group = self.pool.group
        run_dir = self.served.place.run_dir
        self.served.leave()
        unmount_catalogs(run_dir)
        # Not device by device, as the driver would have it.
        group.remove()

    def renew(self) -> None:
        """Make the pool anew, where deleting what it holds would take minutes."""
        self.remove()
        self.open()

    @property
    def pool(self) -> Pool:
        """The open pool."""
        return self.served.pool

    def name(self, what: str = "v") -> str:
        """Return a name that nothing has."""
        return f"{what}-{next(self._names)}"

    def data_used(self) -> Bytes:
        """Return what all devices together map, as committed."""
        return Bytes(self.pool.thin.status(flush=True).data_used * self.pool.block_size)

    def write(self, device: Device, size: Bytes) -> None:
        """Map the first ``size`` bytes of a volume that is not in use."""
        with self.served.raw(device) as path:
            fill(path, size)

    def origin(self) -> Device:
        """Make a raw volume that maps 64 blocks and is not in use."""
        made = self.served.create(self.name("origin"), SIZE, block=True)
        self.write(made, MAPPED)
        return made

    def delete(self, devices: Sequence[Device]) -> None:
        """Delete devices and wait until their space is given back."""
        waiting = [each for each in devices if each.state is not State.DELETING]
        for device in waiting:
            self.pool.device(device.handle.thin).deactivate()
            self.pool.catalog.delete([device])
        self.pool.reclaim_wanted.set()
        wait_until(lambda: not self.pool.catalog.counts().deleting, _RECLAIM)

    def delete_ids(self, ids: Sequence[str]) -> None:
        """Delete devices by their handles, likewise."""
        wanted = {Handle.parse(each) for each in ids}
        self.delete([each for each in self.served.devices() if each.handle in wanted])

    def clear(self) -> None:
        """Delete everything."""
        self.served.unmount()
        self.pool.templates.fill(())
        for group in {device.group for device in self.served.devices()} - {None}:
            members = [each for each in self.served.devices() if each.group == group]
            self.pool.catalog.delete(members, group=group)
        self.delete(self.served.devices())


def unmount_catalogs(run_dir: Path) -> None:
    """Unmount what a node that has ended leaves mounted, which in a container goes with its mount namespace."""
    below = [each.mount_point for each in mountinfo.mounts() if each.mount_point.startswith(f"{run_dir}")]
    for mount_point in reversed(below):
        run("umount", mount_point)


def fill(path: str, size: Bytes, start: Bytes = Bytes(0)) -> None:
    """Write ``size`` bytes of noise to a device or file, whole blocks of it at a time, and make them durable."""
    noise = os.urandom(KIB) * KIB
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT, 0o600)
    try:
        for place in range(start, start + size, len(noise)):
            os.pwrite(descriptor, noise[: start + size - place], place)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
