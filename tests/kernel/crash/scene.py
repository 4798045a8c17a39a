"""A node with volumes that must survive everything, and what must hold after each crash."""

import hashlib
import os
import re
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from typing import Concatenate, Final, ParamSpec, TypeVar

from csi.dm import metadata
from csi.dm.thin_device import ours
from csi.fs import mountinfo
from csi.model import SENTINEL, Device, FsType, Handle, Kind, State, ThinId
from csi.units import MIB, Bytes
from csi.volumes.node import Node
from csi.volumes.pool import Pool
from csi.volumes.reclaim import reclaim
from csi.volumes.requests import Access, VolumeRequest
from tests.kernel.conftest import run
from tests.kernel.crash.engine import Engine, Started

SIZE: Final = Bytes(32 * MIB)
DATA: Final = os.urandom(1 << 20)
_MADE: Final = re.compile(r"create_(?:thin|snap) (\d+)")

P = ParamSpec("P")
R = TypeVar("R")


@dataclass(frozen=True)
class Sight:
    """What there is, seen by the node itself."""

    present: frozenset[ThinId]
    """The pool's thin devices, less the sentinel."""
    devices: tuple[Device, ...]
    """The catalog's rows."""
    active: frozenset[str]
    """The names of the pool's active devices, less the sentinel's."""
    guard: str


def only_pool(node: Node) -> Pool:
    """Return the node's one pool."""
    (pool,) = node.pools.values()
    return pool


def look(node: Node) -> Sight:
    """Return what there is now."""
    pool = only_pool(node)
    sentinel = Handle(pool.id, SENTINEL).device
    return Sight(
        present=frozenset(metadata.thin_ids(pool.thin) - {SENTINEL}),
        devices=tuple(pool.catalog.devices()),
        active=frozenset(info.name for info in ours(pool.control, pool.id) if info.name != sentinel),
        guard=pool.guard.why,
    )


def give_back(node: Node) -> int:
    """Do what waits for the background: give back the space of what was deleted."""
    pool = only_pool(node)
    done = reclaim(pool, threading.Event())
    assert not pool.reclaim_trouble, pool.reclaim_trouble
    return done


@dataclass
class Scene:
    """An engine, the node that runs, and what was answered OK so far."""

    engine: Engine
    started: Started
    fixed: list[Device] = field(default_factory=list)
    """What no test deletes."""
    staged: dict[str, Device] = field(default_factory=dict)
    """What is staged, by path, apart from what a test does by itself."""
    _numbers: Iterator[int] = field(default_factory=count)

    # -- the node -----------------------------------------------------------------------------------------------

    def do(self, function: Callable[Concatenate[Node, P], R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Have the node carry it out."""
        return self.started.do(function, *args, **kwargs)

    def dies_at(
        self, point: str, function: Callable[Concatenate[Node, P], object], *args: P.args, **kwargs: P.kwargs
    ) -> None:
        """Have the node die at ``point`` of ``function``, and start another one."""
        self.started.dies_at(point, function, *args, **kwargs)
        self.started = self.engine.start()

    def restart(self) -> None:
        """Kill the node where it is and start another one."""
        if self.started.alive:
            self.started.kill()
        self.started = self.engine.start()

    # -- volumes ------------------------------------------------------------------------------------------------

    def name(self) -> str:
        """Return a name that was not used before."""
        return f"{self.engine.base.name}-{next(self._numbers)}"

    def volume(self, size: int = SIZE, *, block: bool = False, fs_type: FsType | None = None) -> Device:
        """Make a volume."""
        return self.do(
            Node.create_volume, VolumeRequest(self.name(), Bytes(size), Bytes(size), block=block, fs_type=fs_type)
        )

    def path(self, name: str = "") -> str:
        """Return a path below the kubelet's directory that is not there yet."""
        return f"{self.engine.kubelet}/{name or self.name()}"

    def stage(self, device: Device) -> str:
        """Stage a volume (a raw block volume is published besides); return where its file system or node is."""
        path = self.path(f"staged-{device.handle}")
        os.makedirs(path, exist_ok=True)
        access = Access(block=device.fs_type is None)
        self.do(Node.stage, device.handle, path, access)
        if device.fs_type is None:
            path = self.path(f"target-{device.handle}")
            self.do(Node.publish, device.handle, "", path, access, readonly=False)
        self.staged[path] = device
        return path

    def unstage(self, device: Device) -> None:
        """Take back what ``stage`` did."""
        path = self.path(f"staged-{device.handle}")
        if device.fs_type is None:
            target = self.path(f"target-{device.handle}")
            self.do(Node.unpublish, str(device.handle), target)
            del self.staged[target]
        else:
            del self.staged[path]
        self.do(Node.unstage, device.handle, path)
        os.rmdir(path)

    def copy(self, source: Device, size: int = 0) -> Device:
        """Make a volume of what ``source`` holds."""
        block = source.fs_type is None
        return self.do(Node.create_volume, VolumeRequest(self.name(), Bytes(size), source=source.handle, block=block))

    @contextmanager
    def copied(self, source: Device) -> Iterator[str]:
        """Make a copy for the body, staged; yield where."""
        copy = self.copy(source)
        yield self.stage(copy)
        self.unstage(copy)
        self.do(Node.delete_volume, copy.handle)

    # -- what must hold -----------------------------------------------------------------------------------------

    def settled(self, others: Mapping[str, Device] | None = None) -> Sight:
        """Let the background finish, and see that nothing is left over, lost, or used twice.

        ``others`` is what is mounted or bound by path besides ``staged``.
        """
        self.do(give_back)
        sight = self.do(look)
        mounted = {**self.staged, **(others or {})}
        assert not sight.guard
        assert sight.present == {device.handle.thin for device in sight.devices}, "left over or lost in the pool"
        assert {device.state for device in sight.devices} <= {State.READY}
        assert sight.active == {device.handle.device for device in mounted.values()}, "active and not staged"
        assert self.mounts() == sorted(mounted), "mounted and not staged"
        assert {device.handle for device in self.fixed} <= {device.handle for device in sight.devices}
        self.no_id_used_twice()
        return sight

    def mounts(self) -> list[str]:
        """Return the mount points below the kubelet's directory."""
        below = f"{self.engine.kubelet}/"
        return sorted(mount.mount_point for mount in mountinfo.mounts() if mount.mount_point.startswith(below))

    def no_id_used_twice(self) -> None:
        """See that no thin id was ever made twice, by whichever node."""
        made = _MADE.findall(self.engine.messages.read_text())
        assert len(made) == len(set(made)), sorted(each for each in set(made) if made.count(each) > 1)

    def clean(self) -> None:
        """Take away all but what is fixed, whatever state a test has left."""
        if not self.started.alive:
            self.started = self.engine.start()
        keep = {path: device for path, device in self.staged.items() if device in self.fixed}
        for path in reversed(self.mounts()):
            if path not in keep:
                run("umount", path)
        self.staged = keep
        self.do(_delete_all_but, [device.handle for device in self.fixed])
        for path in os.listdir(self.engine.kubelet):
            whole = f"{self.engine.kubelet}/{path}"
            if whole not in keep:
                os.rmdir(whole) if os.path.isdir(whole) else os.unlink(whole)


def _delete_all_but(node: Node, keep: Sequence[Handle]) -> None:
    pool = only_pool(node)
    doomed = [device for device in pool.catalog.devices() if device.handle not in keep]
    for group in {device.group for device in doomed}:
        members = [device for device in doomed if device.group == group and device.state is not State.DELETING]
        for device in members:
            pool.device(device.handle.thin).deactivate()
        pool.catalog.delete(members, group=group)
    give_back(node)


def checksum(path: str) -> str:
    """Return the SHA-256 of a file."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write(path: str, data: bytes = DATA) -> str:
    """Write a file or a device durably; return the checksum."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT)
    try:
        os.write(descriptor, data)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    return hashlib.sha256(data).hexdigest()


def read(path: str, length: int = len(DATA)) -> str:
    """Return the checksum of the first ``length`` bytes of a file or a device."""
    with open(path, "rb") as file:
        return hashlib.sha256(file.read(length)).hexdigest()


def counter(path: str) -> int:
    """Return the number that a writer has left."""
    with open(path, "rb") as file:
        return int.from_bytes(file.read(8), "big")


@contextmanager
def writing(*paths: str) -> Iterator[None]:
    """Have another process write 1, 2, 3 … to all paths in turn, each durably before the next, during the body."""
    ready, begun = os.pipe()
    writer = os.fork()
    if not writer:
        try:
            _write_on(paths, begun)
        finally:
            os._exit(1)
    try:
        os.close(begun)
        assert os.read(ready, 1)
        yield
    finally:
        os.close(ready)
        os.kill(writer, signal.SIGKILL)
        _, status = os.waitpid(writer, 0)
    assert os.waitstatus_to_exitcode(status) == -signal.SIGKILL, "the writer saw an error"


def _write_on(paths: Sequence[str], begun: int) -> None:
    descriptors = [os.open(path, os.O_WRONLY | os.O_CREAT | os.O_DSYNC) for path in paths]
    for number in count(1):
        for descriptor in descriptors:
            os.pwrite(descriptor, number.to_bytes(8, "big"), 0)
        if number == 1:
            os.write(begun, b"!")
        # There is one processor, and the node needs it too.
        time.sleep(0.002)


def snapshots(node: Node) -> list[Device]:
    """Return all snapshots."""
    return only_pool(node).catalog.devices(kind=Kind.SNAPSHOT)
