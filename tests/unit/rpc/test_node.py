"""The Node service: staging, publishing, inline volumes, figures."""

from collections.abc import Callable
from typing import Any

import pytest

from csi.fs.usage import Usage
from csi.model import FsType
from csi.pb.csi.v1 import csi_pb2 as pb
from csi.units import Bytes
from csi.volumes.reports import Condition, Severity
from csi.volumes.requests import Access, VolumeRequest
from tests.unit.rpc import requests
from tests.unit.rpc.conftest import Stubs
from tests.unit.rpc.fake import ABSENT, BLOCK, VOLUME, FakeNode, device, handle
from tests.unit.rpc.requests import GIB, HERE, Mode, block, mount

Refused = Callable[..., Any]
INLINE = f"csi-{'0a' * 32}"
FLAGS = ("noatime",)


def stage(wanted: pb.VolumeCapability, **context: str) -> pb.NodeStageVolumeRequest:
    return pb.NodeStageVolumeRequest(
        volume_id=str(VOLUME), staging_target_path="/stage", volume_capability=wanted, volume_context=context
    )


def test_the_node_tells_its_place_and_its_limit(stubs: Stubs, fake: FakeNode) -> None:
    info = stubs.node.NodeGetInfo(pb.NodeGetInfoRequest())
    assert info == pb.NodeGetInfoResponse(
        node_id=fake.name, max_volumes_per_node=fake.volume_limit, accessible_topology=HERE
    )


class TestStage:
    @pytest.mark.parametrize(
        ("wanted", "access"),
        [
            (mount(Mode.SINGLE_NODE_MULTI_WRITER), Access()),
            (mount(Mode.SINGLE_NODE_WRITER, "xfs"), Access(fs_type=FsType.XFS, single_writer=True)),
            (
                mount(Mode.SINGLE_NODE_SINGLE_WRITER, "ext4", "noatime"),
                Access(fs_type=FsType.EXT4, mount_flags=FLAGS, single_writer=True),
            ),
            (mount(Mode.SINGLE_NODE_READER_ONLY), Access(single_writer=True, read_only=True)),
            (block(Mode.SINGLE_NODE_MULTI_WRITER), Access(block=True)),
        ],
    )
    def test_the_capability_is_handed_on(
        self, stubs: Stubs, fake: FakeNode, wanted: pb.VolumeCapability, access: Access
    ) -> None:
        stubs.node.NodeStageVolume(stage(wanted))
        assert fake.calls == [("stage", (VOLUME, "/stage", access))]

    @pytest.mark.parametrize(
        ("wanted", "code"),
        [
            (mount(Mode.MULTI_NODE_READER_ONLY), "FAILED_PRECONDITION"),
            (block(Mode.MULTI_NODE_MULTI_WRITER), "FAILED_PRECONDITION"),
            (mount(fs_type="ntfs"), "FAILED_PRECONDITION"),
            (mount(Mode.UNKNOWN), "INVALID_ARGUMENT"),
            (pb.VolumeCapability(), "INVALID_ARGUMENT"),
        ],
    )
    def test_what_no_volume_offers_is_a_failed_precondition(
        self, stubs: Stubs, fake: FakeNode, refused: Refused, wanted: pb.VolumeCapability, code: str
    ) -> None:
        assert refused(stubs.node.NodeStageVolume, stage(wanted)).code().name == code
        request = requests.publish()
        request.volume_capability.CopyFrom(wanted)
        assert refused(stubs.node.NodePublishVolume, request).code().name == code
        assert not fake.calls

    def test_a_context_that_was_never_given_out_is_refused(
        self, stubs: Stubs, fake: FakeNode, refused: Refused
    ) -> None:
        """An administrator who writes fstype into a PersistentVolume's attributes expects it to have an effect."""
        error = refused(stubs.node.NodeStageVolume, stage(mount(), fstype="xfs"))
        assert error.code().name == "INVALID_ARGUMENT"
        assert "fstype" in error.details()
        assert not fake.calls

    @pytest.mark.parametrize("path", ["stage", "./stage", "/stage/../etc", "/..", "/a\0b"])
    def test_a_path_that_could_lead_elsewhere_is_refused(
        self, stubs: Stubs, fake: FakeNode, refused: Refused, path: str
    ) -> None:
        request = stage(mount())
        request.staging_target_path = path
        assert refused(stubs.node.NodeStageVolume, request).code().name == "INVALID_ARGUMENT"
        unstage = pb.NodeUnstageVolumeRequest(volume_id=str(VOLUME), staging_target_path=path)
        assert refused(stubs.node.NodeUnstageVolume, unstage).code().name == "INVALID_ARGUMENT"
        assert not fake.calls

    def test_a_name_with_dots_in_it_is_a_name(self, stubs: Stubs, fake: FakeNode) -> None:
        request = stage(mount())
        request.staging_target_path = "/var/lib/..kubelet/a..b"
        stubs.node.NodeStageVolume(request)
        assert fake.calls

    def test_unstage_hands_on(self, stubs: Stubs, fake: FakeNode) -> None:
        stubs.node.NodeUnstageVolume(pb.NodeUnstageVolumeRequest(volume_id=str(VOLUME), staging_target_path="/stage"))
        assert fake.calls == [("unstage", (VOLUME, "/stage"))]


class TestPublish:
    def test_everything_is_handed_on(self, stubs: Stubs, fake: FakeNode) -> None:
        stubs.node.NodePublishVolume(requests.publish())
        access = Access(fs_type=FsType.EXT4, mount_flags=FLAGS)
        assert fake.calls == [("publish", (VOLUME, "/stage", "/pods/target", access, True))]

    def test_without_a_staging_path_it_is_not_staged(self, stubs: Stubs, fake: FakeNode, refused: Refused) -> None:
        error = refused(stubs.node.NodePublishVolume, requests.publish(staging_target_path=""))
        assert error.code().name == "FAILED_PRECONDITION"
        assert not fake.calls

    def test_a_volume_is_taken_away(self, stubs: Stubs, fake: FakeNode) -> None:
        for volume in (str(VOLUME), INLINE):
            stubs.node.NodeUnpublishVolume(pb.NodeUnpublishVolumeRequest(volume_id=volume, target_path="/target"))
        assert fake.calls == [("unpublish", (str(VOLUME), "/target")), ("unpublish", (INLINE, "/target"))]


class TestInline:
    def test_attributes_become_a_volume_of_the_caller_s_id(self, stubs: Stubs, fake: FakeNode) -> None:
        stubs.node.NodePublishVolume(requests.publish_inline())
        wanted = VolumeRequest(
            name=INLINE,
            required=Bytes(1 * GIB),
            pool="fast",
            fs_type=FsType.EXT4,
            mkfs_profile="auto",
            ephemeral=True,
        )
        access = Access(fs_type=FsType.EXT4, mount_flags=FLAGS)
        assert fake.calls == [("publish_ephemeral", (INLINE, "/pods/target", wanted, access, True))]

    def test_nothing_but_the_mark_is_needed(self, stubs: Stubs, fake: FakeNode) -> None:
        request = pb.NodePublishVolumeRequest(
            volume_id=INLINE,
            target_path="/target",
            volume_capability=mount(),
            volume_context={"csi.storage.k8s.io/ephemeral": "true", "csi.storage.k8s.io/pod.name": "web"},
        )
        stubs.node.NodePublishVolume(request)
        ((_, (_, _, wanted, _, _)),) = fake.calls
        assert wanted == VolumeRequest(name=INLINE, ephemeral=True)

    @pytest.mark.parametrize(
        ("key", "value", "code"),
        [
            ("csi.storage.k8s.io/ephemeral", "yes", "INVALID_ARGUMENT"),
            ("size", "big", "INVALID_ARGUMENT"),
            ("size", "", "INVALID_ARGUMENT"),
            ("size", "0", "INVALID_ARGUMENT"),
            ("size", "-1Gi", "INVALID_ARGUMENT"),
            ("size", "9" * 15 + "Gi", "OUT_OF_RANGE"),
            ("pool", "..", "INVALID_ARGUMENT"),
            ("fstype", "ntfs", "FAILED_PRECONDITION"),
            ("fstype", "xfs", "INVALID_ARGUMENT"),
            ("mkfsProfile", "x", "INVALID_ARGUMENT"),
            ("medium", "Memory", "INVALID_ARGUMENT"),
        ],
    )
    def test_an_attribute_that_cannot_be_is_refused(
        self, stubs: Stubs, fake: FakeNode, refused: Refused, key: str, value: str, code: str
    ) -> None:
        request = requests.publish_inline()
        request.volume_context[key] = value
        if (key, value) == ("fstype", "ntfs"):
            code = "INVALID_ARGUMENT"  # An attribute, not a capability.
        assert refused(stubs.node.NodePublishVolume, request).code().name == code
        assert not fake.calls

    @pytest.mark.parametrize("text", [str(VOLUME), "../x", "a/b", "a b", ".hidden", "-x"])
    def test_an_id_that_could_be_taken_for_something_else_is_refused(
        self, stubs: Stubs, fake: FakeNode, refused: Refused, text: str
    ) -> None:
        request = requests.publish_inline()
        request.volume_id = text
        assert refused(stubs.node.NodePublishVolume, request).code().name == "INVALID_ARGUMENT"
        assert not fake.calls

    def test_raw_block_is_refused(self, stubs: Stubs, fake: FakeNode, refused: Refused) -> None:
        request = requests.publish_inline()
        request.volume_capability.CopyFrom(block())
        assert refused(stubs.node.NodePublishVolume, request).code().name == "INVALID_ARGUMENT"
        assert not fake.calls

    def test_figures_and_health_are_found_by_the_caller_s_id(
        self, stubs: Stubs, fake: FakeNode, refused: Refused
    ) -> None:
        fake.held[handle(9)] = device(9, ephemeral=True, name=INLINE)
        stubs.node.NodeGetVolumeStats(pb.NodeGetVolumeStatsRequest(volume_id=INLINE, volume_path="/target"))
        health = stubs.node.NodeGetVolumeHealth(pb.NodeGetVolumeHealthRequest(volume_id=INLINE)).volume_health
        assert health.volume_id == INLINE
        assert fake.changes == [("usage", (handle(9), "/target")), ("volume_health", (handle(9),))]
        other = pb.NodeGetVolumeStatsRequest(volume_id=INLINE.replace("a", "b"), volume_path="/target")
        assert refused(stubs.node.NodeGetVolumeStats, other).code().name == "NOT_FOUND"


class TestStats:
    def ask(self, stubs: Stubs) -> list[pb.VolumeUsage]:
        request = pb.NodeGetVolumeStatsRequest(volume_id=str(VOLUME), volume_path="/target")
        return list(stubs.node.NodeGetVolumeStats(request).usage)

    def test_bytes_and_inodes_are_told(self, stubs: Stubs) -> None:
        assert self.ask(stubs) == [
            pb.VolumeUsage(unit=pb.VolumeUsage.BYTES, total=100, used=60, available=40),
            pb.VolumeUsage(unit=pb.VolumeUsage.INODES, total=10, used=6, available=4),
        ]

    def test_no_inodes_where_none_are_counted(self, stubs: Stubs, fake: FakeNode) -> None:
        fake.figures = Usage(Bytes(100), Bytes(60), Bytes(40), 0, 0, 0)
        assert [each.unit for each in self.ask(stubs)] == [pb.VolumeUsage.BYTES]

    @pytest.mark.parametrize("path", ["some/path", "/a/../b", "/a\0b"])
    def test_a_volume_is_not_where_no_path_can_be(
        self, stubs: Stubs, fake: FakeNode, refused: Refused, path: str
    ) -> None:
        request = pb.NodeGetVolumeStatsRequest(volume_id=str(VOLUME), volume_path=path)
        assert refused(stubs.node.NodeGetVolumeStats, request).code().name == "NOT_FOUND"
        assert not fake.calls


class TestExpand:
    def test_the_file_system_takes_the_volumes_size(self, stubs: Stubs, fake: FakeNode) -> None:
        request = pb.NodeExpandVolumeRequest(volume_id=str(VOLUME), volume_path="/target")
        assert stubs.node.NodeExpandVolume(request).capacity_bytes == 1 * GIB
        assert fake.calls == [("expand_fs", (VOLUME, "/target", 0))]

    @pytest.mark.parametrize(
        ("volume", "wanted"), [(VOLUME, block()), (BLOCK, mount()), (VOLUME, mount(fs_type="xfs"))]
    )
    def test_a_capability_that_the_volume_lacks_is_refused(
        self, stubs: Stubs, fake: FakeNode, refused: Refused, volume: object, wanted: pb.VolumeCapability
    ) -> None:
        request = pb.NodeExpandVolumeRequest(volume_id=str(volume), volume_path="/target", volume_capability=wanted)
        assert refused(stubs.node.NodeExpandVolume, request).code().name == "INVALID_ARGUMENT"
        assert not fake.changes

    def test_an_unknown_volume_is_not_found(self, stubs: Stubs, refused: Refused) -> None:
        for text in ("fake-vol-id", str(ABSENT)):
            request = pb.NodeExpandVolumeRequest(volume_id=text, volume_path="/target")
            assert refused(stubs.node.NodeExpandVolume, request).code().name == "NOT_FOUND"


def test_pools_tell_their_health_in_the_words_of_storage(stubs: Stubs, fake: FakeNode) -> None:
    fake.conditions = [
        Condition("NoExtensionRoom", "add a disk", Severity.DEGRADED),
        Condition("PoolFailed", "gone", Severity.INACCESSIBLE),
        Condition("PoolFailed", "lost", Severity.DATA_LOSS),
        Condition("Loop", "for development", Severity.INFO),
    ]
    answer = stubs.node.NodeGetStorageHealth(pb.NodeGetStorageHealthRequest())
    assert [(each.status, each.reason, each.message) for each in answer.backend_health] == [
        (pb.STORAGE_DEGRADED, "NoExtensionRoom", "add a disk"),
        (pb.STORAGE_UNREACHABLE, "PoolFailed", "gone; lost"),
    ]
