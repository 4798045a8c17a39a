"""What tests on a real kernel share: the control device, disks, and a thin pool made without LVM."""

import contextlib
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from csi.dm.ioctl import Control
from csi.dm.targets import Line, Linear, ThinPoolTable
from csi.dm.thin_device import ThinDevice
from csi.dm.thin_pool import ThinPool
from csi.errors import KernelError
from csi.model import Handle, PoolId, ThinId
from csi.units import KIB, MIB, Blocks, Bytes, sectors

_PREFIX = "test-"
_OURS = "thinpool-"
_METADATA = Bytes(8 * MIB)

POOL_ID = PoolId("testpool22")
"""The pool id of every bare pool."""


@pytest.fixture
def control() -> Iterator[Control]:
    """Open the control device, with no device of a test there before and after."""
    with Control() as opened:
        _sweep(opened)
        yield opened
        _sweep(opened)


@pytest.fixture
def make_disk() -> "Iterator[MakeDisk]":
    """Return a function that makes a sparse disk that takes discards, and returns its path."""
    with contextlib.ExitStack() as stack:

        def make(size: Bytes) -> str:
            path = f"/tmp/test-disk-{os.getpid()}-{time.monotonic_ns()}"
            with open(path, "xb") as file:
                stack.callback(os.unlink, path)
                file.truncate(size)
            device = run("losetup", "--find", "--show", path).strip()
            stack.callback(run, "losetup", "--detach", device)
            return device

        yield make


class BarePool(ThinPool):
    """A thin pool on two linear slices of one disk, the metadata first, and room behind the data to grow."""

    def __init__(self, control: Control, disk: str, data: Bytes, *, low_water: int, error_if_no_space: bool) -> None:
        super().__init__(control, f"{_PREFIX}pool")
        self._control = control
        self._disk = disk
        self._slice("meta", Bytes(0), _METADATA)
        self._slice("data", _METADATA, data)
        self._table = ThinPoolTable(
            sectors(data),
            self._number("meta"),
            self._number("data"),
            Bytes(64 * KIB),
            Blocks(low_water),
            error_if_no_space=error_if_no_space,
        )
        self._activate(self.name, self._table.line())

    def device(self, thin: int) -> ThinDevice:
        """Return the device of a thin id."""
        return ThinDevice(self._control, Handle(POOL_ID, ThinId(thin)))

    def activated(self, thin: int, size: Bytes) -> ThinDevice:
        """Make a thin device and activate it."""
        self.create_thin(ThinId(thin))
        device = self.device(thin)
        device.activate(self.number, size)
        return device

    def extend(self, data: Bytes) -> None:
        """Make the pool's data as large as ``data``, as an extension by LVM does."""
        self._control.load(f"{_PREFIX}data", [self._linear(_METADATA, data)])
        self._control.resume(f"{_PREFIX}data", flush=False, lockfs=False)
        now = self.table
        grown = ThinPoolTable(
            sectors(data),
            now.metadata,
            now.data,
            now.block_size,
            now.low_water,
            error_if_no_space=now.error_if_no_space,
        )
        self._control.load(self.name, [grown.line()])
        self._control.resume(self.name, flush=False, lockfs=False)

    def close(self) -> None:
        """Remove the pool, for a start over."""
        self._control.remove(self.name)

    def open(self) -> None:
        """Make the pool's device again on the same disk."""
        self._activate(self.name, self._table.line())

    def _slice(self, name: str, offset: Bytes, size: Bytes) -> None:
        self._activate(f"{_PREFIX}{name}", self._linear(offset, size))

    def _linear(self, offset: Bytes, size: Bytes) -> Line:
        return Linear(sectors(size), self._disk, sectors(offset)).line()

    def _activate(self, name: str, line: Line) -> None:
        self._control.create(name)
        self._control.load(name, [line])
        self._control.resume(name)

    def _number(self, name: str) -> str:
        info = self._control.info(f"{_PREFIX}{name}")
        assert info is not None
        return info.number


MakeDisk = Callable[[Bytes], str]
MakePool = Callable[..., BarePool]
Mount = Callable[[str], str]


@pytest.fixture
def make_pool(make_disk: MakeDisk, control: Control) -> MakePool:
    """Return a function that makes a bare pool of so many bytes of data on a disk of 1 GiB."""

    def make(data: int = 64 * MIB, *, low_water: int = 0, error_if_no_space: bool = False) -> BarePool:
        disk = make_disk(Bytes(1024 * MIB))
        return BarePool(control, disk, Bytes(data), low_water=low_water, error_if_no_space=error_if_no_space)

    return make


@pytest.fixture
def pool(make_pool: MakePool) -> BarePool:
    """Make a bare pool with 64 MiB of data in blocks of 64 KiB."""
    return make_pool()


@pytest.fixture
def mount(tmp_path: Path) -> Iterator[Mount]:
    """Return a function that makes an ext4 on a device, mounts it, and returns where."""
    with contextlib.ExitStack() as stack:

        def mounted(device: str) -> str:
            target = f"{tmp_path}/{os.path.basename(device)}"
            os.mkdir(target)
            run("mkfs.ext4", "-q", "-E", "nodiscard", device)
            run("mount", device, target)
            stack.callback(run, "umount", target)
            return target

        yield mounted


def run(*argv: str) -> str:
    """Run a program and return its output; it must succeed, within five minutes."""
    return subprocess.run(argv, check=True, stdout=subprocess.PIPE, text=True, timeout=300).stdout


@contextlib.contextmanager
def detached(*argv: str) -> "Iterator[subprocess.Popen[str]]":
    """Start a program, its output on a pipe, and kill it at the end."""
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def wait_until(condition: Callable[[], object], seconds: float = 30) -> None:
    """Wait until ``condition`` holds; fail after so many seconds."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds:g} s: {condition}"
        time.sleep(0.01)


def _sweep(control: Control) -> None:
    """Remove every device of a test, from the top down; fail if one stays."""
    for _ in range(20):
        left = [device.name for device in control.devices() if device.name.startswith((_PREFIX, _OURS))]
        if not left:
            return
        for name in left:
            with contextlib.suppress(KernelError):
                info = control.info(name)
                if info is not None and info.suspended and info.has_live_table:
                    control.resume(name)
                control.remove(name)
        time.sleep(0.05)
    pytest.fail(f"devices of a test are in use and stay: {left}")
