"""A node with one pool on a disk of its own, as the tests of volumes use it."""

import contextlib
import os
import subprocess
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from csi.agent.agent import Agent
from csi.dm import block
from csi.dm.freezer import Freezer
from csi.dm.ioctl import Control
from csi.dm.targets import PoolMode
from csi.fs import mountinfo
from csi.model import SENTINEL, Device, FsType, Handle, Kind, State
from csi.settings import PoolSpec
from csi.units import MIB, Bytes
from csi.volumes import sentinel
from csi.volumes.node import Node
from csi.volumes.opening import Place
from csi.volumes.pool import Pool
from csi.volumes.requests import Access, VolumeRequest
from tests.kernel.conftest import run, wait_until

NODE: Final = "node-a"
SIZE: Final = Bytes(64 * MIB)
"""The size of a volume that no test cares about."""


@contextlib.contextmanager
def loop_disk(file: Path, size: int, *, discards: bool = True) -> Iterator[str]:
    """Make a sparse file of ``size`` bytes and attach it; without ``discards`` what was written stays on it."""
    with open(file, "xb") as made:
        made.truncate(size)
    device = run("losetup", "--find", "--show", str(file)).strip()
    try:
        if not discards:
            Path(f"/sys/block/{os.path.basename(device)}/queue/discard_max_bytes").write_text("0")
        yield device
    finally:
        run("losetup", "--detach", device)
        file.unlink()


@dataclass
class Served:
    """A node, its agent and the directories they work in."""

    base: Path
    spec: PoolSpec
    freezer: Freezer
    node_name: str = NODE
    control: Control = field(default_factory=Control)
    _node: Node | None = None
    _agent: Agent | None = None

    @property
    def place(self) -> Place:
        kubelet = self.base / "kubelet"
        kubelet.mkdir(parents=True, exist_ok=True)
        run_dir = Path("/run/thinpool-csi-test") / self.base.name
        return Place(self.node_name, self.base / "state", run_dir, kubelet, self.control, self.freezer)

    @property
    def node(self) -> Node:
        assert self._node is not None
        return self._node

    @property
    def pool(self) -> Pool:
        (pool,) = self.node.pools.values()
        return pool

    def open(self, *, agent: bool = True) -> None:
        """Open the pool, making it if there is none; ``agent`` says whether it is looked after."""
        node = Node(self.place, [self.spec])
        self._agent = Agent(node) if agent else None
        if self._agent is None:
            node.open()
        else:
            node.open(self._agent.watch)
        self._node = node
        assert not node.closed, node.closed

    def reopen(self) -> None:
        """Open the pool if a test left it closed."""
        if self._node is None or not self._node.pools:
            self.open()

    def stop(self) -> None:
        """End the agent and let go of the pool; volumes stay in use."""
        if self._agent is not None:
            self._agent.stop()
        if self._node is not None:
            self._node.close()
        self._node = self._agent = None

    def reboot(self) -> None:
        """Take everything out of the kernel, as a reboot does, and open it again."""
        self.leave()
        self.open()

    def leave(self) -> None:
        """Unmount and deactivate everything, and take the pool out of the kernel."""
        self.unmount()
        if self._agent is not None:
            self._agent.stop()
        for device in self.devices():
            self.pool.device(device.handle.thin).deactivate()
        self.node.deactivate()
        self._node = self._agent = None

    def devices(self) -> list[Device]:
        """Return all the catalog knows."""
        return self.pool.catalog.devices()

    def clear(self) -> None:
        """Delete everything and wait until its space is given back."""
        self.unmount()
        if self.pool.guard.why:
            self.node.check(rebuild=True)
        for group in {device.group for device in self.devices()} - {None}:
            self.pool.catalog.delete([each for each in self.devices() if each.group == group], group=group)
        self.pool.templates.fill(())
        for device in self.devices():
            if device.state is not State.DELETING:
                self.pool.device(device.handle.thin).deactivate()
                self.pool.catalog.delete([device])
        for left in sorted((self.base / "kubelet").glob("*")):
            left.rmdir() if left.is_dir() and not left.is_symlink() else left.unlink()
        self.reclaimed()

    def reclaimed(self) -> None:
        """Wait until nothing waits for its space to be given back."""
        self.pool.reclaim_wanted.set()
        wait_until(lambda: not self.pool.catalog.counts().deleting, 60)

    def filled(self) -> None:
        """Wait until the pool is full and has no ballast left to give."""
        wait_until(lambda: self.pool.thin.status().mode is PoolMode.OUT_OF_DATA_SPACE, 60)
        self.ballast_given()
        # It takes writes for a moment.
        wait_until(lambda: self.pool.thin.status().mode is PoolMode.OUT_OF_DATA_SPACE, 60)

    def ballast_given(self) -> None:
        """Wait until the ballast was given to the pool, and what it mapped is free."""
        wait_until(lambda: not sentinel.ballast(self.pool), 60)
        # Blocks are free some time after they are mapped no more: a second discard of the same range waits for the
        # first, and the commit for both.
        path = self.pool.device(SENTINEL).path
        block.discard(path, Bytes(0), block.size(path))
        self.pool.thin.status(flush=True)

    def unmount(self, *, lazy: bool = False) -> None:
        """Unmount whatever is mounted below the kubelet's directory."""
        below = f"{self.base}/kubelet/"
        for mount in reversed(mountinfo.mounts()):
            if mount.mount_point.startswith(below):
                run("umount", *(["--lazy"] if lazy else []), mount.mount_point)

    # -- requests -----------------------------------------------------------------------------------------------

    def create(self, name: str, size: int = SIZE, *, block: bool = False, fs_type: FsType | None = None) -> Device:
        """Make a volume."""
        return self.node.create_volume(VolumeRequest(name, Bytes(size), block=block, fs_type=fs_type))

    def copy(self, name: str, source: Handle, size: int = 0, *, block: bool = False) -> Device:
        """Make a volume from a snapshot or a volume."""
        return self.node.create_volume(VolumeRequest(name, Bytes(size), source=source, block=block))

    def path(self, name: str) -> str:
        """Return a path below the kubelet's directory."""
        return f"{self.base}/kubelet/{name}"

    def staged(self, device: Device, *, flags: Sequence[str] = (), read_only: bool = False) -> str:
        """Stage a volume and return where; a raw block volume is published besides, and its node returned."""
        block = device.fs_type is None
        access = Access(block=block, mount_flags=tuple(flags), read_only=read_only)
        path = self.path(f"staged-{device.handle}")
        os.makedirs(path, exist_ok=True)
        self.node.stage(device.handle, path, access)
        if not block:
            return path
        target = self.path(f"target-{device.handle}")
        self.node.publish(device.handle, path, target, access, readonly=False)
        return target

    def unstage(self, device: Device) -> None:
        """Take back what ``staged`` did."""
        self.node.unpublish(str(device.handle), self.path(f"target-{device.handle}"))
        self.node.unstage(device.handle, self.path(f"staged-{device.handle}"))

    def active(self, handle: Handle) -> bool:
        """Tell whether the volume's device is there."""
        return self.pool.device(handle.thin).info() is not None

    @contextlib.contextmanager
    def raw(self, device: Device) -> Iterator[str]:
        """Hold a volume's device active behind the driver's back, as somebody with dmsetup would."""
        thin = self.pool.device(device.handle.thin)
        yield thin.activate(self.pool.number, device.size)
        thin.deactivate()

    def mapped(self, device: Device) -> Bytes:
        """Return how much of the pool a volume maps."""
        (listed,) = (each for each in self.node.listing(Kind.VOLUME) if each.device.handle == device.handle)
        assert listed.mapped is not None
        return listed.mapped

    def let(self, **fields: object) -> None:
        """Serve with other settings from now on."""
        self.pool.spec = replace(self.pool.spec, **fields)  # type: ignore[arg-type]


def pool_devices() -> list[str]:
    """Return the names of all devices that LVM or we have for pools."""
    listed = run("dmsetup", "ls").splitlines()
    return sorted(line.split()[0] for line in listed if line.startswith("thinpool-"))


def pools_on(disk: str) -> set[str]:
    """Return the ids of the pools that have devices on ``disk``."""
    above = {entry.name for entry in Path("/sys/block", os.path.basename(disk), "holders").iterdir()}
    names = {Path("/sys/block", each, "dm/name").read_text().strip() for each in above}
    return {name.removeprefix("thinpool--").partition("-")[0] for name in names if name.startswith("thinpool--")}


def remove_devices(pool_id: str, *, patience: float = 10) -> None:
    """Remove a pool's devices, trying for so many seconds. What is in use fails from now on."""
    deadline = time.monotonic() + patience
    while left := [name for name in pool_devices() if pool_id in name]:
        for name in left:
            # A thin device in use gets a table of errors, which also ends writes that wait for a full pool.
            force = ["--force"] if not name.startswith("thinpool--") else []
            subprocess.run(["dmsetup", "remove", *force, name], check=False, capture_output=True, timeout=30)
        if time.monotonic() >= deadline:
            return
