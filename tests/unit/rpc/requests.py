"""A complete and valid request for every call, as the base that tests damage in one place at a time."""

from collections.abc import Mapping

from google.protobuf.message import Message

from csi.model import TOPOLOGY_KEY
from csi.pb.csi.v1 import csi_pb2 as pb
from tests.unit.rpc.fake import GROUP, NODE, SNAPSHOT, VOLUME

Mode = pb.VolumeCapability.AccessMode
SECRETS = {"password": "hunter2secret"}
HERE = pb.Topology(segments={TOPOLOGY_KEY: NODE})
ELSEWHERE = pb.Topology(segments={TOPOLOGY_KEY: "node-2"})
GIB = 1 << 30


def mount(mode: Mode.Mode.ValueType = Mode.SINGLE_NODE_WRITER, fs_type: str = "", *flags: str) -> pb.VolumeCapability:
    return pb.VolumeCapability(
        mount=pb.VolumeCapability.MountVolume(fs_type=fs_type, mount_flags=flags), access_mode=Mode(mode=mode)
    )


def block(mode: Mode.Mode.ValueType = Mode.SINGLE_NODE_WRITER) -> pb.VolumeCapability:
    return pb.VolumeCapability(block=pb.VolumeCapability.BlockVolume(), access_mode=Mode(mode=mode))


def from_snapshot(handle: object = SNAPSHOT) -> pb.VolumeContentSource:
    return pb.VolumeContentSource(snapshot=pb.VolumeContentSource.SnapshotSource(snapshot_id=str(handle)))


def from_volume(handle: object = VOLUME) -> pb.VolumeContentSource:
    return pb.VolumeContentSource(volume=pb.VolumeContentSource.VolumeSource(volume_id=str(handle)))


def create_volume(source: pb.VolumeContentSource | None = None) -> pb.CreateVolumeRequest:
    return pb.CreateVolumeRequest(
        name="pvc-1",
        capacity_range=pb.CapacityRange(required_bytes=1 * GIB, limit_bytes=2 * GIB),
        volume_capabilities=[mount(Mode.SINGLE_NODE_MULTI_WRITER, "ext4", "noatime")],
        parameters={"pool": "fast", "mkfsProfile": "5.15", "csi.storage.k8s.io/pvc/name": "data"},
        secrets=SECRETS,
        volume_content_source=source,
        accessibility_requirements=pb.TopologyRequirement(requisite=[ELSEWHERE, HERE], preferred=[HERE, ELSEWHERE]),
    )


def publish(**changes: str) -> pb.NodePublishVolumeRequest:
    fields = {"volume_id": str(VOLUME), "staging_target_path": "/stage", "target_path": "/pods/target", **changes}
    return pb.NodePublishVolumeRequest(
        volume_id=fields["volume_id"],
        staging_target_path=fields["staging_target_path"],
        target_path=fields["target_path"],
        volume_capability=mount(Mode.SINGLE_NODE_MULTI_WRITER, "ext4", "noatime"),
        readonly=True,
        secrets=SECRETS,
        volume_context={"csi.storage.k8s.io/pod.name": "web", "storage.kubernetes.io/csiProvisionerIdentity": "x"},
    )


def publish_inline() -> pb.NodePublishVolumeRequest:
    request = publish(volume_id=f"csi-{'0a' * 32}", staging_target_path="")
    context = {"csi.storage.k8s.io/ephemeral": "true", "size": "1Gi", "pool": "fast", "fstype": "ext4"}
    request.volume_context.update({**context, "mkfsProfile": "auto"})
    return request


def valid() -> Mapping[str, tuple[str, Message]]:
    """Return a name for each: the service's stub and call, and the request."""
    volume, snapshot = str(VOLUME), str(SNAPSHOT)
    size = pb.CapacityRange(required_bytes=1 * GIB, limit_bytes=2 * GIB)
    return {
        "create": ("controller.CreateVolume", create_volume()),
        "restore": ("controller.CreateVolume", create_volume(from_snapshot())),
        "clone": ("controller.CreateVolume", create_volume(from_volume())),
        "delete": ("controller.DeleteVolume", pb.DeleteVolumeRequest(volume_id=volume, secrets=SECRETS)),
        "validate": (
            "controller.ValidateVolumeCapabilities",
            pb.ValidateVolumeCapabilitiesRequest(
                volume_id=volume,
                volume_context={"storage.kubernetes.io/csiProvisionerIdentity": "x"},
                volume_capabilities=[mount(Mode.SINGLE_NODE_WRITER, "ext4", "noatime")],
                parameters={"pool": "fast"},
                secrets=SECRETS,
            ),
        ),
        "list volumes": (
            "controller.ListVolumes",
            pb.ListVolumesRequest(max_entries=1, starting_token=f"volumes:{VOLUME}"),
        ),
        "get volume": ("controller.ControllerGetVolume", pb.ControllerGetVolumeRequest(volume_id=volume)),
        "capacity": (
            "controller.GetCapacity",
            pb.GetCapacityRequest(
                volume_capabilities=[mount(fs_type="xfs")], parameters={"pool": "fast"}, accessible_topology=HERE
            ),
        ),
        "snapshot": (
            "controller.CreateSnapshot",
            pb.CreateSnapshotRequest(
                source_volume_id=volume,
                name="snapshot-1",
                secrets=SECRETS,
                parameters={"csi.storage.k8s.io/volumesnapshot/name": "s"},
                accessibility_requirements=pb.TopologyRequirement(requisite=[HERE], preferred=[HERE]),
            ),
        ),
        "delete snapshot": ("controller.DeleteSnapshot", pb.DeleteSnapshotRequest(snapshot_id=snapshot)),
        "get snapshot": ("controller.GetSnapshot", pb.GetSnapshotRequest(snapshot_id=snapshot, secrets=SECRETS)),
        "list snapshots": (
            "controller.ListSnapshots",
            pb.ListSnapshotsRequest(
                max_entries=1, starting_token=f"snapshots:{VOLUME}", source_volume_id=volume, snapshot_id=snapshot
            ),
        ),
        "expand": (
            "controller.ControllerExpandVolume",
            pb.ControllerExpandVolumeRequest(
                volume_id=volume, capacity_range=size, secrets=SECRETS, volume_capability=mount(fs_type="ext4")
            ),
        ),
        "volume health": (
            "controller.ControllerGetVolumeHealth",
            pb.ControllerGetVolumeHealthRequest(volume_id=volume, secrets=SECRETS),
        ),
        "list health": (
            "controller.ControllerListVolumeHealth",
            pb.ControllerListVolumeHealthRequest(max_entries=1, starting_token=f"health:{VOLUME}", secrets=SECRETS),
        ),
        "group": (
            "group.CreateVolumeGroupSnapshot",
            pb.CreateVolumeGroupSnapshotRequest(
                name="group-1",
                source_volume_ids=[volume],
                secrets=SECRETS,
                parameters={"csi.storage.k8s.io/volumegroupsnapshot/name": "g"},
            ),
        ),
        "delete group": (
            "group.DeleteVolumeGroupSnapshot",
            pb.DeleteVolumeGroupSnapshotRequest(group_snapshot_id=str(GROUP), snapshot_ids=[snapshot], secrets=SECRETS),
        ),
        "get group": (
            "group.GetVolumeGroupSnapshot",
            pb.GetVolumeGroupSnapshotRequest(group_snapshot_id=str(GROUP), snapshot_ids=[snapshot], secrets=SECRETS),
        ),
        "stage": (
            "node.NodeStageVolume",
            pb.NodeStageVolumeRequest(
                volume_id=volume,
                staging_target_path="/stage",
                volume_capability=mount(Mode.SINGLE_NODE_MULTI_WRITER, "ext4", "noatime"),
                secrets=SECRETS,
                volume_context={"storage.kubernetes.io/csiProvisionerIdentity": "x"},
            ),
        ),
        "unstage": (
            "node.NodeUnstageVolume",
            pb.NodeUnstageVolumeRequest(volume_id=volume, staging_target_path="/stage"),
        ),
        "publish": ("node.NodePublishVolume", publish()),
        "publish inline": ("node.NodePublishVolume", publish_inline()),
        "unpublish": (
            "node.NodeUnpublishVolume",
            pb.NodeUnpublishVolumeRequest(volume_id=volume, target_path="/pods/target"),
        ),
        "stats": (
            "node.NodeGetVolumeStats",
            pb.NodeGetVolumeStatsRequest(volume_id=volume, volume_path="/pods/target", staging_target_path="/stage"),
        ),
        "node expand": (
            "node.NodeExpandVolume",
            pb.NodeExpandVolumeRequest(
                volume_id=volume,
                volume_path="/pods/target",
                capacity_range=size,
                staging_target_path="/stage",
                volume_capability=mount(fs_type="ext4"),
                secrets=SECRETS,
            ),
        ),
        "node health": (
            "node.NodeGetVolumeHealth",
            pb.NodeGetVolumeHealthRequest(
                volume_id=volume, volume_publish_path="/pods/target", staging_target_path="/stage"
            ),
        ),
        "storage health": ("node.NodeGetStorageHealth", pb.NodeGetStorageHealthRequest(secrets=SECRETS)),
    }
