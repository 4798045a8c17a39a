"""Two pools of one node, what is in them, and the command that repairs one while the other is served."""

import contextlib
import hashlib
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from csi import failpoint
from csi.dm.freezer import Freezer
from csi.dm.ioctl import Control
from csi.model import Device, State
from csi.settings import LoopSize, Mode, PoolSpec
from csi.units import GIB, MIB, Bytes
from csi.volumes.node import Node
from csi.volumes.opening import Place, deactivate_pool
from csi.volumes.pool import Pool
from csi.volumes.requests import VolumeRequest
from tests.guest.machine import ROOT
from tests.kernel.conftest import run
from tests.kernel.metadata import Metadata
from tests.kernel.volumes.served import loop_disk, pool_devices, remove_devices

_NODE = "node-a"
_PATIENCE = 180.0
# More than one leaf of mappings, of 64 KiB each.
_WRITTEN = 24 * MIB
_FILES = LoopSize(Bytes(1 * GIB), Bytes(256 * MIB))

Done = subprocess.CompletedProcess[str]


@dataclass
class Scene:
    """The node, its pools ``fast`` and ``other``, and the checksums of what is in ``fast``."""

    base: Path
    disks: dict[str, list[str]]
    freezer: Freezer
    on_files: bool = False
    """Whether ``fast`` lies on files of its own (loop-lvm)."""
    control: Control = field(default_factory=Control)
    content: dict[str, tuple[Device, str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.node = Node(self.place, self.specs)
        self.node.open()
        assert not self.node.closed, self.node.closed
        self.pool_id = self.fast.id
        self.find_metadata()

    def find_metadata(self) -> None:
        """See where the metadata of the open pool lies."""
        found = Metadata.of(self.control, self.fast.group.pool_name)
        file = self.fast.group.loop_metadata
        # The loop device goes with the pool.
        self.metadata = replace(found, disk=str(file.file)) if file else found

    @property
    def specs(self) -> list[PoolSpec]:
        specs = [PoolSpec(name, devices=tuple(disks), thinp_percent=60) for name, disks in self.disks.items()]
        return [*specs, PoolSpec("fast", mode=Mode.LOOP, loop=_FILES)] if self.on_files else specs

    @property
    def place(self) -> Place:
        (self.base / "kubelet").mkdir(exist_ok=True)
        run_dir = Path("/run/thinpool-csi-test") / self.base.name
        return Place(_NODE, self.base / "state", run_dir, self.base / "kubelet", self.control, self.freezer)

    @property
    def fast(self) -> Pool:
        pool = self.node.wanted.by_name("fast")
        assert pool is not None, self.node.closed
        return pool

    @property
    def vg(self) -> str:
        return f"thinpool-{self.pool_id}"

    def furnish(self) -> None:
        """Make volumes and a snapshot in ``fast``, whose content is remembered."""
        for name in ("one", "two", "three"):
            made = self.node.create_volume(VolumeRequest(name, Bytes(64 * MIB), pool="fast", block=True))
            self.write(made)
            self.remember(name, made)
        one, _ = self.content["one"]
        self.remember("cut", self.node.create_snapshot("cut", one.handle))
        self.write(one, 3 * MIB)
        self.remember("one", one)

    def write(self, device: Device, size: int = _WRITTEN) -> None:
        with self.raw(device) as path, open(path, "r+b") as stream:
            stream.write(os.urandom(size))
            stream.flush()
            os.fsync(stream.fileno())

    def remember(self, name: str, device: Device) -> None:
        self.content[name] = (device, self.digest(device))

    def digest(self, device: Device) -> str:
        with self.raw(device) as path, open(path, "rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()

    @contextlib.contextmanager
    def raw(self, device: Device) -> Iterator[str]:
        """Hold a device active, as its use does."""
        thin = self.fast.device(device.handle.thin)
        yield thin.activate(self.fast.number, device.size)
        thin.deactivate()

    def take_out(self) -> None:
        """Take ``fast`` out of the kernel and close it, as a stopped and restarted machine has it."""
        self.node.wanted._end(self.fast, deactivate_pool)
        for disk in self.disks.get("fast", ()):
            run("blockdev", "--flushbufs", disk)

    def restart(self) -> None:
        """Let another node take the place of this one; what was active stays so."""
        self.node.close()
        self.node = Node(self.place, self.specs)

    def open(self) -> str:
        """Try to open what is closed, as the node does every now and then; return why ``fast`` still is, or ''."""
        self.node.open()
        assert self.node.wanted.by_name("other") is not None
        # The other pool is served all the while.
        name = f"other-{os.urandom(4).hex()}"
        assert self.node.create_volume(VolumeRequest(name, Bytes(8 * MIB), pool="other", block=True)).size
        return str(self.node.closed.get("fast", ""))

    def repair(self, *options: str, point: str = "") -> Done:
        """Run the command on ``fast``, as an administrator would."""
        pools = self.base / "pools.yaml"
        lines = [f"  - {{name: {name}, devices: [{', '.join(disks)}]}}" for name, disks in self.disks.items()]
        if self.on_files:
            lines.append("  - {name: fast, mode: loop-lvm}")
        pools.write_text("\n".join(["pools:", *lines]))
        place = self.place
        directories = {"state": place.state_dir, "run": place.run_dir, "kubelet": place.kubelet_dir}
        argv = [sys.executable, "-m", "csi", "repair", "--pool", "fast", "--pools", str(pools), "--node-name", _NODE]
        argv += [word for name, path in directories.items() for word in (f"--{name}-dir", str(path))]
        environment = {**os.environ, failpoint.VARIABLE: point}
        return subprocess.run(
            [*argv, *options],
            check=False,
            capture_output=True,
            text=True,
            timeout=_PATIENCE,
            cwd=ROOT,
            env=environment,
        )

    def lvm(self, *words: str) -> str:
        """Run LVM on ``fast`` by hand."""
        command, *rest = words
        devices = [word for disk in self.disks["fast"] for word in ("--devices", disk)]
        config = f'global{{system_id_source="lvmlocal"}} local{{system_id="thinpool-csi.{_NODE}"}} backup{{archive=0}}'
        done = subprocess.run(
            ["lvm", command, *devices, "--config", config, *rest],
            check=False,
            capture_output=True,
            text=True,
            timeout=60,
            env={**os.environ, "LVM_SYSTEM_DIR": ""},
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def volumes(self) -> list[str]:
        """Return the names of the LVs of ``fast``, hidden ones too."""
        listed = self.lvm("lvs", "--all", "--noheadings", "--options", "lv_name", self.vg).split()
        return sorted(name.strip("[]") for name in listed)

    def kept(self, number: int = 1) -> str:
        """Return the checksum of the old metadata that a repair kept."""
        self.lvm("lvchange", "--activate", "y", f"{self.vg}/old-metadata-{number}")
        with open(f"/dev/mapper/{self.vg.replace('-', '--')}-old--metadata--{number}", "rb") as stream:
            found = hashlib.file_digest(stream, "sha256").hexdigest()
        self.lvm("lvchange", "--activate", "n", f"{self.vg}/old-metadata-{number}")
        return found

    def present(self) -> Mapping[str, bool]:
        """Return for each volume and snapshot whether its content is what it was; those the pool has not are out."""
        lost = {device.handle.thin for device in self.fast.catalog.devices(state=State.LOST)}
        missing = self.fast.guard.missing | lost
        return {
            name: self.digest(device) == digest
            for name, (device, digest) in self.content.items()
            if device.handle.thin not in missing
        }

    def active(self) -> list[str]:
        """Return the devices of ``fast`` in the kernel."""
        return [name for name in pool_devices() if self.pool_id in name]


@pytest.fixture(scope="session")
def freezer() -> Iterator[Freezer]:
    started = Freezer.start()
    yield started
    started.close()


@pytest.fixture
def scene(tmp_path: Path, freezer: Freezer) -> Iterator[Scene]:
    with contextlib.ExitStack() as stack:
        disks = {
            name: [stack.enter_context(loop_disk(tmp_path / name, size * MIB))]
            for name, size in (("fast", 640), ("other", 384))
        }
        made = Scene(tmp_path, disks, freezer)
        stack.callback(_finish, made, {pool.id for pool in made.node.pools.values()})
        made.furnish()
        made.take_out()
        yield made


@pytest.fixture
def scene_on_files(tmp_path: Path, freezer: Freezer) -> Iterator[Scene]:
    with contextlib.ExitStack() as stack:
        disks = {"other": [stack.enter_context(loop_disk(tmp_path / "other", 384 * MIB))]}
        made = Scene(tmp_path, disks, freezer, on_files=True)
        stack.callback(_finish, made, {pool.id for pool in made.node.pools.values()})
        made.furnish()
        made.take_out()
        yield made


@pytest.fixture
def spare_disk(tmp_path: Path) -> Iterator[str]:
    with loop_disk(tmp_path / "spare", 384 * MIB) as disk:
        yield disk


def _finish(scene: Scene, pool_ids: set[str]) -> None:
    scene.node.close()
    for pool_id in pool_ids:
        remove_devices(pool_id, patience=0)
    run_dir = scene.place.run_dir
    for mount in (*run_dir.glob("*/catalog"), run_dir):
        subprocess.run(["umount", "--lazy", str(mount)], check=False, capture_output=True, timeout=30)
    for pool_id in pool_ids:
        remove_devices(pool_id)
    for file in scene.place.state_dir.glob("loop/*/*"):
        for device in run("losetup", "--noheadings", "--output", "NAME", "--associated", str(file)).split():
            run("losetup", "--detach", device)
