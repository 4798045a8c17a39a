"""What the tests of pools share: blank disks, a clean device-mapper before and after, and LVM by hand."""

import contextlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from csi.dm.ioctl import Control
from csi.dm.targets import ThinPoolStatus
from csi.errors import KernelError
from csi.lvm.pool_group import PoolGroup
from csi.settings import PoolSpec
from csi.units import GIB, MIB, Bytes
from tests.kernel.conftest import MakeDisk, run, wait_until

NODE = "node-a"
BIG = Bytes(10 * GIB)
SMALL = Bytes(512 * MIB)


@pytest.fixture
def disk(make_disk: MakeDisk) -> str:
    """Make a blank disk of 512 MiB."""
    return make_disk(SMALL)


def sweep(control: Control) -> None:
    """Remove what LVM has activated, as a reboot does: the pool before its parts. udev may hold one for a moment."""

    def swept() -> bool:
        left = sorted((found.name for found in control.devices() if found.name.startswith("thinpool--")), key=len)
        for name in left:
            with contextlib.suppress(KernelError):
                control.remove(name)
        return not left

    wait_until(swept)


@pytest.fixture
def state(tmp_path: Path, control: Control) -> Iterator[Path]:
    """Return an empty state directory; loop devices on files in it are detached afterwards."""
    yield tmp_path / "state"
    sweep(control)
    for file in tmp_path.glob("state/loop/*/*"):
        for device_path in run("losetup", "--noheadings", "--output", "NAME", "--associated", str(file)).split():
            run("losetup", "--detach", device_path)


def opened(spec: PoolSpec, state: Path, node: str = NODE) -> PoolGroup:
    """Find or make the pool of a spec, and activate it."""
    group = PoolGroup.open(spec, node, state)
    group.activate()
    return group


def status(control: Control, group: PoolGroup) -> ThinPoolStatus:
    """Return the kernel's status of a pool, found by its UUID."""
    info = control.info_by_uuid(group.pool_uuid)
    assert info is not None
    assert info.name == group.pool_name
    return ThinPoolStatus.parse(control.status(info.name)[0])


def lvm(*args: str) -> str:
    """Run LVM as an administrator would, with its own defaults; it must succeed."""
    done = try_lvm(*args)
    assert done.returncode == 0, done.stderr
    return done.stdout


def try_lvm(*args: str) -> "subprocess.CompletedProcess[str]":
    """Run LVM as an administrator would and return what it left."""
    env = {**os.environ, "LVM_SYSTEM_DIR": "", "LC_ALL": "C"}
    return subprocess.run(["lvm", *args], check=False, capture_output=True, text=True, timeout=60, env=env)


def content(disk: str) -> dict[int, bytes]:
    """Return every block of 4 KiB that is not all zeros, by its offset."""
    file = Path(f"/sys/block/{os.path.basename(disk)}/loop/backing_file").read_text().strip()
    blocks: dict[int, bytes] = {}
    run("sync", disk)
    with open(file, "rb") as stream:
        end = stream.seek(0, os.SEEK_END)
        offset = 0
        while offset < end:
            try:
                offset = os.lseek(stream.fileno(), offset, os.SEEK_DATA)
            except OSError:
                break
            hole = os.lseek(stream.fileno(), offset, os.SEEK_HOLE)
            for place in range(offset, hole, 4096):
                block = os.pread(stream.fileno(), 4096, place)
                if block.strip(b"\0"):
                    blocks[place] = block
            offset = hole
    return blocks
