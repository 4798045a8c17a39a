"""The callers of a CSI driver in one small client: what the orchestrator and the kubelet would ask, on its socket."""

import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar

import grpc
from google.protobuf.message import Message

from csi.cli.account import DemoError, Space
from csi.cli.served import explain
from csi.pb.csi.v1 import csi_pb2 as pb
from csi.pb.csi.v1 import csi_pb2_grpc as rpc
from csi.pb.thinpool.v1 import admin_pb2
from csi.pb.thinpool.v1.admin_pb2_grpc import AdminStub

DEADLINE: Final = 60.0
"""Seconds for any call."""

_Answer = TypeVar("_Answer", bound=Message)


@dataclass(frozen=True)
class Volume:
    """A volume as the orchestrator knows it."""

    id: str
    name: str
    size: int
    block: bool


class Kubelet:
    """Makes volumes and uses them below ``directory``. Every call raises DemoError if the driver refuses it."""

    def __init__(self, socket: str, directory: Path, fs_type: str) -> None:
        self._channel = grpc.insecure_channel(f"unix:{socket}")
        self._controller = rpc.ControllerStub(self._channel)
        self._groups = rpc.GroupControllerStub(self._channel)
        self._node = rpc.NodeStub(self._channel)
        self._admin = AdminStub(self._channel)
        self._directory = directory
        self._fs_type = fs_type
        self.volumes: dict[str, Volume] = {}
        """What was created and not deleted, by id; so the others."""
        self.snapshots: list[str] = []
        self.groups: dict[str, Sequence[str]] = {}
        self.used: dict[str, Volume] = {}
        """Volumes that are staged, and maybe published."""

    def close(self) -> None:
        """Close the connection."""
        self._channel.close()

    # -- what an orchestrator asks ------------------------------------------------------------------------------

    def create(self, name: str, size: int = 0, *, snapshot: str = "", volume: str = "", block: bool = False) -> Volume:
        """Make a volume: blank, of a snapshot, or of a volume."""
        source = None
        if snapshot:
            source = pb.VolumeContentSource(snapshot=pb.VolumeContentSource.SnapshotSource(snapshot_id=snapshot))
        elif volume:
            source = pb.VolumeContentSource(volume=pb.VolumeContentSource.VolumeSource(volume_id=volume))
        request = pb.CreateVolumeRequest(
            name=name,
            capacity_range=pb.CapacityRange(required_bytes=size) if size else None,
            volume_capabilities=[self._capability(block=block)],
            volume_content_source=source,
        )
        made = _call("create volume", name, lambda: self._controller.CreateVolume(request, timeout=DEADLINE)).volume
        known = Volume(made.volume_id, name, made.capacity_bytes, block)
        self.volumes[known.id] = known
        return known

    def delete(self, volume: Volume) -> None:
        """Delete a volume."""
        request = pb.DeleteVolumeRequest(volume_id=volume.id)
        _call("delete volume", volume.name, lambda: self._controller.DeleteVolume(request, timeout=DEADLINE))
        del self.volumes[volume.id]

    def exists(self, volume: Volume) -> bool:
        """Tell whether the driver knows the volume."""
        request = pb.ControllerGetVolumeRequest(volume_id=volume.id)
        try:
            self._controller.ControllerGetVolume(request, timeout=DEADLINE)
        except grpc.RpcError as error:
            if explain(error).startswith("NOT_FOUND"):
                return False
            message = f"get volume {volume.name}: {explain(error)}"
            raise DemoError(message) from error
        return True

    def grow(self, volume: Volume, size: int) -> None:
        """Grow a volume that is in use, and then the file system on it."""
        wanted = pb.CapacityRange(required_bytes=size)
        request = pb.ControllerExpandVolumeRequest(volume_id=volume.id, capacity_range=wanted)
        answer = _call(
            "expand volume",
            volume.name,
            lambda: self._controller.ControllerExpandVolume(request, timeout=DEADLINE),
        )
        if answer.node_expansion_required:
            there = pb.NodeExpandVolumeRequest(
                volume_id=volume.id,
                volume_path=str(self.target(volume)),
                staging_target_path=str(self._staging(volume)),
                capacity_range=wanted,
            )
            _call("expand file system", volume.name, lambda: self._node.NodeExpandVolume(there, timeout=DEADLINE))

    def snapshot(self, name: str, volume: Volume) -> str:
        """Cut a snapshot and return its id."""
        request = pb.CreateSnapshotRequest(name=name, source_volume_id=volume.id)
        made = _call("create snapshot", name, lambda: self._controller.CreateSnapshot(request, timeout=DEADLINE))
        self.snapshots.append(made.snapshot.snapshot_id)
        return made.snapshot.snapshot_id

    def delete_snapshot(self, snapshot: str) -> None:
        """Delete a snapshot."""
        request = pb.DeleteSnapshotRequest(snapshot_id=snapshot)
        _call("delete snapshot", snapshot, lambda: self._controller.DeleteSnapshot(request, timeout=DEADLINE))
        self.snapshots.remove(snapshot)

    def snapshot_group(self, name: str, volumes: Sequence[Volume]) -> tuple[str, Mapping[str, str]]:
        """Cut several volumes at one point in time; return the group's id, and each volume's snapshot by its id."""
        request = pb.CreateVolumeGroupSnapshotRequest(name=name, source_volume_ids=[volume.id for volume in volumes])
        made = _call(
            "create group snapshot",
            name,
            lambda: self._groups.CreateVolumeGroupSnapshot(request, timeout=DEADLINE),
        ).group_snapshot
        members = {member.source_volume_id: member.snapshot_id for member in made.snapshots}
        self.groups[made.group_snapshot_id] = tuple(members.values())
        return made.group_snapshot_id, members

    def delete_group(self, group: str) -> None:
        """Delete a group with its members."""
        request = pb.DeleteVolumeGroupSnapshotRequest(group_snapshot_id=group, snapshot_ids=self.groups[group])
        _call(
            "delete group snapshot",
            group,
            lambda: self._groups.DeleteVolumeGroupSnapshot(request, timeout=DEADLINE),
        )
        del self.groups[group]

    # -- what a kubelet asks ------------------------------------------------------------------------------------

    def use(self, volume: Volume) -> Path:
        """Stage and publish a volume; return where it is: a directory, or the device's node."""
        staging, target = self._staging(volume), self.target(volume)
        staging.mkdir(parents=True, exist_ok=True)
        target.parent.mkdir(parents=True, exist_ok=True)
        capability = self._capability(block=volume.block)
        self.used[volume.id] = volume
        stage = pb.NodeStageVolumeRequest(
            volume_id=volume.id, staging_target_path=str(staging), volume_capability=capability
        )
        _call("stage volume", volume.name, lambda: self._node.NodeStageVolume(stage, timeout=DEADLINE))
        publish = pb.NodePublishVolumeRequest(
            volume_id=volume.id,
            staging_target_path=str(staging),
            target_path=str(target),
            volume_capability=capability,
        )
        _call("publish volume", volume.name, lambda: self._node.NodePublishVolume(publish, timeout=DEADLINE))
        return target

    def release(self, volume: Volume) -> None:
        """Unpublish and unstage a volume, whichever of both was done."""
        gone = pb.NodeUnpublishVolumeRequest(volume_id=volume.id, target_path=str(self.target(volume)))
        _call("unpublish volume", volume.name, lambda: self._node.NodeUnpublishVolume(gone, timeout=DEADLINE))
        down = pb.NodeUnstageVolumeRequest(volume_id=volume.id, staging_target_path=str(self._staging(volume)))
        _call("unstage volume", volume.name, lambda: self._node.NodeUnstageVolume(down, timeout=DEADLINE))
        self.used.pop(volume.id, None)

    def release_all(self) -> None:
        """Release what is still in use, as far as the driver answers. To be called when things went wrong."""
        with contextlib.suppress(DemoError):
            for volume in list(self.used.values()):
                self.release(volume)

    def target(self, volume: Volume) -> Path:
        """Return where a volume is published."""
        return self._directory / "pods" / volume.name / ("device" if volume.block else "mount")

    def _staging(self, volume: Volume) -> Path:
        return self._directory / "staging" / volume.name

    def _capability(self, *, block: bool) -> pb.VolumeCapability:
        mode = pb.VolumeCapability.AccessMode(mode=pb.VolumeCapability.AccessMode.SINGLE_NODE_WRITER)
        if block:
            return pb.VolumeCapability(block=pb.VolumeCapability.BlockVolume(), access_mode=mode)
        mount = pb.VolumeCapability.MountVolume(fs_type=self._fs_type)
        return pb.VolumeCapability(mount=mount, access_mode=mode)

    # -- what the command line asks -----------------------------------------------------------------------------

    def node(self) -> admin_pb2.GetNodeResponse:
        """Return the figures of the node."""
        request = admin_pb2.GetNodeRequest()
        return _call("get", "node", lambda: self._admin.GetNode(request, timeout=DEADLINE))

    def space(self) -> Space:
        """Return what the pool holds for its users."""
        pool = self.node().pools[0]
        # The ballast is the pool's own, and comes by and by after a start.
        return Space(pool.data_used - pool.ballast, pool.volumes, pool.snapshots, pool.deferred_deletions)

    def check(self) -> admin_pb2.CheckResponse:
        """Compare the catalog with the pool."""
        request = admin_pb2.CheckRequest()
        return _call("check", "pools", lambda: self._admin.Check(request, timeout=DEADLINE))


def _call(operation: str, subject: str, call: Callable[[], _Answer]) -> _Answer:
    try:
        return call()
    except grpc.RpcError as error:
        message = f"{operation} {subject}: {explain(error)}"
        raise DemoError(message) from error
