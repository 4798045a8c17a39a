"""The driver's types written as CSI's messages."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, TypeVar

from google.protobuf.timestamp_pb2 import Timestamp

from csi.errors import NotFoundError
from csi.model import Device, Group, GroupHandle, Handle, State
from csi.pb.csi.v1 import csi_pb2 as pb
from csi.rpc import topology
from csi.volumes.reports import Condition, Severity

if TYPE_CHECKING:
    from csi.volumes.node import Node

_Content = pb.VolumeContentSource
_Word = TypeVar("_Word")

_VOLUME_STATUS: Final = MappingProxyType(
    {
        Severity.DEGRADED: pb.DEGRADED,
        Severity.INACCESSIBLE: pb.INACCESSIBLE,
        Severity.DATA_LOSS: pb.DATA_LOSS,
    }
)
_STORAGE_STATUS: Final = MappingProxyType(
    {
        Severity.DEGRADED: pb.STORAGE_DEGRADED,
        Severity.INACCESSIBLE: pb.STORAGE_UNREACHABLE,
        # There is no third word for storage, and nothing new should be put on such a pool.
        Severity.DATA_LOSS: pb.STORAGE_UNREACHABLE,
    }
)


def volume(device: Device, node: "Node", source: pb.VolumeContentSource | None = None) -> pb.Volume:
    """Return a volume with its content source: ``source`` if it is known, else what is found of it.

    The volume's context is always empty: its id says everything, and a context can never be changed.
    """
    return _volume(device, source or _content_source(device, node), topology.of_node(node.name))


def volumes(devices: Sequence[Device], node: "Node") -> list[pb.Volume]:
    """Return volumes, each source looked for once."""
    sources = {each.content_source: each for each in devices}
    found = {text: _content_source(device, node) for text, device in sources.items()}
    where = topology.of_node(node.name)
    return [_volume(device, found[device.content_source], where) for device in devices]


def _volume(device: Device, source: pb.VolumeContentSource | None, where: pb.Topology) -> pb.Volume:
    return pb.Volume(
        capacity_bytes=device.size,
        volume_id=str(device.handle),
        content_source=source,
        accessible_topology=[where],
    )


def _content_source(device: Device, node: "Node") -> pb.VolumeContentSource | None:
    """Return what the volume was made from, if that is still there; the catalog keeps its handle, not its kind."""
    handle = Handle.parse(device.content_source)
    if handle is None:
        return None
    if _exists(node.snapshot, handle):
        return pb.VolumeContentSource(snapshot=_Content.SnapshotSource(snapshot_id=str(handle)))
    if _exists(node.volume, handle):
        return pb.VolumeContentSource(volume=_Content.VolumeSource(volume_id=str(handle)))
    return None


def _exists(find: Callable[[Handle], Device], handle: Handle) -> bool:
    try:
        find(handle)
    except NotFoundError:
        return False
    return True


def snapshot(device: Device, node: str) -> pb.Snapshot:
    """Return a snapshot, with its group if it is a member of one."""
    group = device.group
    return pb.Snapshot(
        size_bytes=device.size,
        snapshot_id=str(device.handle),
        source_volume_id=source_volume(device),
        creation_time=_time(device.created),
        ready_to_use=device.state is State.READY,
        group_snapshot_id="" if group is None else str(GroupHandle(device.handle.pool, group)),
        accessible_topology=[topology.of_node(node)],
    )


def source_volume(device: Device) -> str:
    """Return the id of a snapshot's source volume, which may be gone; '' where a lost catalog took it along."""
    if device.content_source or device.origin is None:
        return device.content_source
    return str(Handle(device.handle.pool, device.origin))


def group_snapshot(group: Group, node: str) -> pb.VolumeGroupSnapshot:
    """Return a group snapshot with its members."""
    members = [snapshot(member, node) for member in group.members]
    return pb.VolumeGroupSnapshot(
        group_snapshot_id=str(group.handle),
        snapshots=members,
        creation_time=_time(group.created),
        ready_to_use=all(member.ready_to_use for member in members),
    )


def volume_health(handle: str, conditions: Iterable[Condition]) -> pb.VolumeHealth:
    """Return a volume's health; no condition means that it is well as far as is known."""
    return pb.VolumeHealth(
        volume_id=handle,
        health_statuses=[
            pb.VolumeHealth.VolumeHealthEntry(status=status, reason=reason, message=message)
            for status, reason, message in _merged(conditions, _VOLUME_STATUS)
        ],
    )


def storage_health(conditions: Iterable[Condition]) -> pb.NodeGetStorageHealthResponse:
    """Return the health of the node's pools."""
    return pb.NodeGetStorageHealthResponse(
        backend_health=[
            pb.NodeGetStorageHealthResponse.StorageBackendHealth(status=status, reason=reason, message=message)
            for status, reason, message in _merged(conditions, _STORAGE_STATUS)
        ]
    )


def _merged(conditions: Iterable[Condition], words: Mapping[Severity, _Word]) -> list[tuple[_Word, str, str]]:
    """Put conditions into CSI's words and join those alike: 1.13 allows one entry for a status and reason."""
    found: dict[tuple[_Word, str], list[str]] = {}
    for condition in conditions:
        if condition.severity not in words:
            continue  # Severity.INFO: nothing is wrong.
        messages = found.setdefault((words[condition.severity], condition.reason), [])
        if condition.message not in messages:
            messages.append(condition.message)
    return [(word, reason, "; ".join(messages)) for (word, reason), messages in found.items()]


def _time(nanoseconds: int) -> Timestamp:
    seconds, rest = divmod(nanoseconds, 10**9)
    return Timestamp(seconds=seconds, nanos=rest)
