"""Who calls a node: an orchestrator and a kubelet whose patience ends, and who tell how long an answer took."""

import hashlib
import os
import subprocess
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import grpc

from csi.fs import mountinfo
from csi.pb.csi.v1 import csi_pb2 as pb
from csi.pb.csi.v1 import csi_pb2_grpc as rpc
from csi.pb.thinpool.v1 import admin_pb2
from csi.pb.thinpool.v1.admin_pb2_grpc import AdminStub
from csi.units import MIB

PATIENCE: Final = 15.0
"""Seconds for an answer, of whatever kind."""
SIZE: Final = 64 * MIB


@dataclass(frozen=True)
class Volume:
    """A volume with a file system, and the checksum of the file that was synced in it."""

    id: str
    path: Path
    sum: str


class Callers:
    """Calls over the node's socket."""

    def __init__(self, socket: str, directory: Path) -> None:
        self._channel = grpc.insecure_channel(f"unix:{socket}")
        self._controller = rpc.ControllerStub(self._channel)
        self._node = rpc.NodeStub(self._channel)
        self._admin = AdminStub(self._channel)
        self._directory = directory
        self._capability = pb.VolumeCapability(
            mount=pb.VolumeCapability.MountVolume(fs_type="ext4"),
            access_mode=pb.VolumeCapability.AccessMode(mode=pb.VolumeCapability.AccessMode.SINGLE_NODE_MULTI_WRITER),
        )

    def create(self, name: str, pool: str) -> str:
        """Make a volume; return its handle."""
        request = pb.CreateVolumeRequest(
            name=name,
            capacity_range=pb.CapacityRange(required_bytes=SIZE),
            volume_capabilities=[self._capability],
            parameters={"pool": pool},
        )
        return self._controller.CreateVolume(request, timeout=PATIENCE).volume.volume_id

    def stage(self, volume: str) -> Path:
        """Mount a volume; return where."""
        path = self._directory / volume
        path.mkdir(exist_ok=True)
        request = pb.NodeStageVolumeRequest(
            volume_id=volume, staging_target_path=str(path), volume_capability=self._capability
        )
        self._node.NodeStageVolume(request, timeout=PATIENCE)
        return path

    def unstage(self, volume: str) -> None:
        """Unmount a volume."""
        path = str(self._directory / volume)
        self._node.NodeUnstageVolume(
            pb.NodeUnstageVolumeRequest(volume_id=volume, staging_target_path=path), timeout=PATIENCE
        )

    def delete(self, volume: str) -> None:
        """Delete a volume."""
        self._controller.DeleteVolume(pb.DeleteVolumeRequest(volume_id=volume), timeout=PATIENCE)

    def snapshot(self, name: str, volume: str) -> str:
        """Cut a snapshot."""
        request = pb.CreateSnapshotRequest(name=name, source_volume_id=volume)
        return self._controller.CreateSnapshot(request, timeout=PATIENCE).snapshot.snapshot_id

    def stats(self, volume: str) -> None:
        """Ask how full a volume is."""
        path = str(self._directory / volume)
        self._node.NodeGetVolumeStats(
            pb.NodeGetVolumeStatsRequest(volume_id=volume, volume_path=path), timeout=PATIENCE
        )

    def volume_health(self, volume: str) -> str:
        """Ask for the health of a volume; return what is said."""
        return str(self._node.NodeGetVolumeHealth(pb.NodeGetVolumeHealthRequest(volume_id=volume), timeout=PATIENCE))

    def health(self) -> str:
        """Ask for the health of the pools; return what is said."""
        return str(self._node.NodeGetStorageHealth(pb.NodeGetStorageHealthRequest(), timeout=PATIENCE))

    def info(self) -> dict[str, list[str]]:
        """Return the conditions of each pool, but those of no weight."""
        report = self._admin.GetNode(admin_pb2.GetNodeRequest(), timeout=PATIENCE)
        return {
            pool.pool: [each.reason for each in pool.conditions if each.severity != "info"] for pool in report.pools
        }

    def rebuild(self) -> None:
        """Rebuild catalogs."""
        self._admin.Check(admin_pb2.CheckRequest(rebuild=True), timeout=4 * PATIENCE)

    def furnished(self, name: str, pool: str) -> Volume:
        """Make a volume, mount it, and put a synced file into it."""
        made = self.create(name, pool)
        path = self.stage(made)
        return Volume(made, path, write(path / "data"))

    def lives(self, name: str, pool: str) -> float:
        """Take a volume through its whole life; return the seconds of the slowest of its calls."""
        slowest = 0.0

        def timed(call: Callable[[], object]) -> object:
            nonlocal slowest
            begun = time.monotonic()
            answer = call()
            slowest = max(slowest, time.monotonic() - begun)
            return answer

        made = str(timed(lambda: self.create(name, pool)))
        path = self._directory / made
        timed(lambda: self.stage(made))
        timed(lambda: write(path / "data"))
        timed(lambda: self.stats(made))
        timed(lambda: self.unstage(made))
        timed(lambda: self.delete(made))
        return slowest

    def leave(self) -> None:
        """Unmount what is mounted, however it is."""
        for mount in reversed(mountinfo.mounts()):
            if mount.mount_point.startswith(f"{self._directory}/"):
                self.unmount(Path(mount.mount_point))
        self._channel.close()

    @staticmethod
    def unmount(path: Path) -> None:
        """Unmount, whatever state it is in."""
        subprocess.run(["umount", "--lazy", str(path)], check=False, capture_output=True, timeout=30)


def write(path: Path) -> str:
    """Write a file and see that it is on the disk; return its checksum."""
    data = os.urandom(MIB)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT, 0o600)
    try:
        os.write(descriptor, data)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    return hashlib.sha256(data).hexdigest()


def read(path: Path) -> str:
    """Return the checksum of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def storm(calls: list[Callable[[], object]]) -> list[str]:
    """Make all calls at once; return the code of each answer, DEADLINE_EXCEEDED for none in time."""
    with ThreadPoolExecutor(len(calls)) as threads:
        return list(threads.map(_code, calls))


def _code(call: Callable[[], object]) -> str:
    try:
        call()
    except grpc.RpcError as error:
        code = error.code()
        return str(code.name)
    return "OK"
