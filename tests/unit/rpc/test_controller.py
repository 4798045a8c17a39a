"""The Controller service: what reaches the node, and what comes back."""

from collections.abc import Callable
from typing import Any

import pytest

from csi.errors import ExistsError, InvalidRequestError, NoSpaceError, NotFoundError, UnavailableError
from csi.model import TOPOLOGY_KEY, FsState, FsType, State, ThinId
from csi.pb.csi.v1 import csi_pb2 as pb
from csi.units import Bytes
from csi.volumes.reports import Condition, Severity
from csi.volumes.requests import VolumeRequest
from tests.unit.rpc import requests
from tests.unit.rpc.conftest import Stubs
from tests.unit.rpc.fake import ABSENT, BLOCK, CREATED, NODE, SNAPSHOT, VOLUME, FakeNode, cut, device, handle
from tests.unit.rpc.requests import ELSEWHERE, GIB, HERE, Mode, block, from_snapshot, from_volume, mount

Refused = Callable[..., Any]


def asked(fake: FakeNode) -> VolumeRequest:
    ((name, (request,)),) = fake.changes
    assert name == "create_volume"
    assert isinstance(request, VolumeRequest)
    return request


class TestCreateVolume:
    def test_a_full_request_reaches_the_node_and_comes_back(self, stubs: Stubs, fake: FakeNode) -> None:
        answer = stubs.controller.CreateVolume(requests.create_volume(from_snapshot()))
        assert asked(fake) == VolumeRequest(
            name="pvc-1",
            required=Bytes(1 * GIB),
            limit=Bytes(2 * GIB),
            pool="fast",
            fs_type=FsType.EXT4,
            mkfs_profile="5.15",
            source=SNAPSHOT,
        )
        assert answer.volume == pb.Volume(
            capacity_bytes=1 * GIB,
            volume_id=str(handle(0x10)),
            content_source=from_snapshot(),
            accessible_topology=[HERE],
        )

    def test_next_to_nothing_is_enough(self, stubs: Stubs, fake: FakeNode) -> None:
        stubs.controller.CreateVolume(pb.CreateVolumeRequest(name="v", volume_capabilities=[mount()]))
        assert asked(fake) == VolumeRequest(name="v")

    def test_raw_block_takes_no_file_system_from_its_class(self, stubs: Stubs, fake: FakeNode) -> None:
        parameters = {"csi.storage.k8s.io/fstype": "xfs"}
        request = pb.CreateVolumeRequest(name="v", volume_capabilities=[block()], parameters=parameters)
        stubs.controller.CreateVolume(request)
        assert asked(fake) == VolumeRequest(name="v", block=True)

    def test_the_file_system_may_come_as_a_parameter(self, stubs: Stubs, fake: FakeNode) -> None:
        parameters = {"csi.storage.k8s.io/fstype": "xfs"}
        request = pb.CreateVolumeRequest(name="v", volume_capabilities=[mount()], parameters=parameters)
        stubs.controller.CreateVolume(request)
        assert asked(fake).fs_type is FsType.XFS

    def test_a_source_of_the_other_kind_is_not_found(self, stubs: Stubs, fake: FakeNode, refused: Refused) -> None:
        for source in (from_snapshot(VOLUME), from_volume(SNAPSHOT)):
            error = refused(stubs.controller.CreateVolume, requests.create_volume(source))
            assert error.code().name == "NOT_FOUND"
        assert not fake.changes

    def test_a_source_that_is_gone_is_for_the_node_to_judge(self, stubs: Stubs, fake: FakeNode) -> None:
        """An equal request made earlier is answered although its source was deleted since."""
        stubs.controller.CreateVolume(requests.create_volume(from_volume(ABSENT)))
        assert asked(fake).source == ABSENT

    @pytest.mark.parametrize(
        "source",
        [
            pb.VolumeContentSource(),
            pb.VolumeContentSource(snapshot=pb.VolumeContentSource.SnapshotSource()),
            pb.VolumeContentSource(volume=pb.VolumeContentSource.VolumeSource()),
        ],
        ids=["none", "no snapshot", "no volume"],
    )
    def test_a_source_that_names_nothing_is_refused(
        self, stubs: Stubs, fake: FakeNode, refused: Refused, source: pb.VolumeContentSource
    ) -> None:
        error = refused(stubs.controller.CreateVolume, requests.create_volume(source))
        assert error.code().name == "INVALID_ARGUMENT"
        assert not fake.calls

    @pytest.mark.parametrize(
        ("capabilities", "parameters"),
        [
            ([mount(Mode.MULTI_NODE_READER_ONLY)], {}),
            ([mount(Mode.MULTI_NODE_SINGLE_WRITER)], {}),
            ([block(Mode.MULTI_NODE_MULTI_WRITER)], {}),
            ([mount(Mode.UNKNOWN)], {}),
            ([mount(99)], {}),  # type: ignore[arg-type] # a mode of a later CSI
            ([mount(), mount(Mode.MULTI_NODE_READER_ONLY)], {}),
            ([mount(), block()], {}),
            ([mount(fs_type="ext4"), mount(fs_type="xfs")], {}),
            ([mount(Mode.SINGLE_NODE_WRITER, "ntfs")], {}),
            ([mount(Mode.SINGLE_NODE_WRITER, "EXT4")], {}),
            ([pb.VolumeCapability(access_mode=Mode(mode=Mode.SINGLE_NODE_WRITER))], {}),
            ([pb.VolumeCapability(mount=pb.VolumeCapability.MountVolume())], {}),
            ([mount(Mode.SINGLE_NODE_WRITER, "ext4", "errors=panic")], {}),
            ([mount(Mode.SINGLE_NODE_WRITER, "", "")], {}),
            ([mount()], {"fstype": "xfs"}),
            ([mount()], {"Pool": "fast"}),
            ([mount()], {"pool": ""}),
            ([mount()], {"pool": "../fast"}),
            ([mount()], {"pool": "x" * 64}),
            ([mount()], {"mkfsProfile": ""}),
            ([mount()], {"mkfsProfile": "new"}),
            ([mount()], {"mkfsProfile": "5.15; rm"}),
            ([mount()], {"csi.storage.k8s.io/fstype": "zfs"}),
            ([mount(fs_type="ext4")], {"csi.storage.k8s.io/fstype": "xfs"}),
        ],
    )
    def test_what_no_volume_here_can_be_is_refused(
        self,
        stubs: Stubs,
        fake: FakeNode,
        refused: Refused,
        capabilities: list[pb.VolumeCapability],
        parameters: dict[str, str],
    ) -> None:
        request = pb.CreateVolumeRequest(name="v", volume_capabilities=capabilities, parameters=parameters)
        error = refused(stubs.controller.CreateVolume, request)
        assert error.code().name == "INVALID_ARGUMENT"
        assert not fake.calls

    @pytest.mark.parametrize("text", ["tab\tand\nline", "name with spaces", "имя", "名前", "../../etc"])
    def test_any_text_without_control_characters_is_a_name(self, stubs: Stubs, fake: FakeNode, text: str) -> None:
        stubs.controller.CreateVolume(pb.CreateVolumeRequest(name=text, volume_capabilities=[mount()]))
        assert asked(fake).name == text

    @pytest.mark.parametrize("text", ["a\x00", "a\x08", "a\x0b", "a\x0c", "a\x0e", "a\x1f", "a\x7f", "a\x9f"])
    def test_the_banned_control_characters_are_refused(
        self, stubs: Stubs, fake: FakeNode, refused: Refused, text: str
    ) -> None:
        request = pb.CreateVolumeRequest(name=text, volume_capabilities=[mount()])
        assert refused(stubs.controller.CreateVolume, request).code().name == "INVALID_ARGUMENT"
        assert not fake.calls

    @pytest.mark.parametrize(
        ("requisite", "preferred", "code"),
        [
            ([], [], "OK"),
            ([HERE], [], "OK"),
            ([ELSEWHERE, HERE], [ELSEWHERE], "OK"),
            ([], [ELSEWHERE], "OK"),
            ([ELSEWHERE], [], "RESOURCE_EXHAUSTED"),
            ([ELSEWHERE], [HERE], "RESOURCE_EXHAUSTED"),
            ([pb.Topology(segments={"zone": NODE})], [], "RESOURCE_EXHAUSTED"),
            ([pb.Topology(segments={TOPOLOGY_KEY: NODE, "zone": "a"})], [], "RESOURCE_EXHAUSTED"),
            ([pb.Topology()], [], "INVALID_ARGUMENT"),
            ([HERE], [pb.Topology()], "INVALID_ARGUMENT"),
        ],
    )
    def test_a_volume_is_made_only_where_it_may_be(
        self,
        stubs: Stubs,
        fake: FakeNode,
        refused: Refused,
        requisite: list[pb.Topology],
        preferred: list[pb.Topology],
        code: str,
    ) -> None:
        request = requests.create_volume()
        wanted = pb.TopologyRequirement(requisite=requisite, preferred=preferred)
        request.accessibility_requirements.CopyFrom(wanted)
        if code == "OK":
            stubs.controller.CreateVolume(request)
            assert fake.changes
        else:
            assert refused(stubs.controller.CreateVolume, request).code().name == code
            assert not fake.calls

    @pytest.mark.parametrize(
        ("failure", "code"),
        [
            (ExistsError("create volume", "v", "another"), "ALREADY_EXISTS"),
            (NoSpaceError("create volume", "v", "full"), "RESOURCE_EXHAUSTED"),
            (UnavailableError("create volume", "v", "closed"), "UNAVAILABLE"),
        ],
    )
    def test_the_nodes_errors_become_their_codes(
        self, stubs: Stubs, fake: FakeNode, refused: Refused, failure: Exception, code: str
    ) -> None:
        fake.failure = failure
        error = refused(stubs.controller.CreateVolume, requests.create_volume())
        assert error.code().name == code
        assert error.details() == str(failure)


class TestDelete:
    @pytest.mark.parametrize("text", ["fake-vol-id", "../x", "abcdefghij-0000000g", "abcdefghij-00000000", "a\0"])
    def test_what_cannot_be_ours_is_gone_already(self, stubs: Stubs, fake: FakeNode, text: str) -> None:
        stubs.controller.DeleteVolume(pb.DeleteVolumeRequest(volume_id=text))
        stubs.controller.DeleteSnapshot(pb.DeleteSnapshotRequest(snapshot_id=text))
        assert not fake.calls

    def test_a_pool_that_is_not_seen_yet_is_not_taken_for_gone(
        self, stubs: Stubs, fake: FakeNode, refused: Refused
    ) -> None:
        fake.failure = UnavailableError("delete volume", "v", "its pool is not open")
        error = refused(stubs.controller.DeleteVolume, pb.DeleteVolumeRequest(volume_id=str(VOLUME)))
        assert error.code().name == "UNAVAILABLE"


class TestValidate:
    def ask(self, stubs: Stubs, volume: object, *wanted: pb.VolumeCapability, **parameters: str) -> Any:  # noqa: ANN401
        return stubs.controller.ValidateVolumeCapabilities(
            pb.ValidateVolumeCapabilitiesRequest(
                volume_id=str(volume), volume_capabilities=wanted, parameters=parameters
            )
        )

    def test_what_fits_is_confirmed_word_for_word(self, stubs: Stubs, fake: FakeNode) -> None:
        answer = self.ask(stubs, VOLUME, mount(), mount(Mode.SINGLE_NODE_READER_ONLY, "ext4"), pool="fast")
        confirmed = answer.confirmed
        assert list(confirmed.volume_capabilities) == [mount(), mount(Mode.SINGLE_NODE_READER_ONLY, "ext4")]
        assert dict(confirmed.parameters) == {"pool": "fast"}
        assert not fake.changes

    @pytest.mark.parametrize(
        ("volume", "wanted", "parameters"),
        [
            (VOLUME, mount(Mode.MULTI_NODE_MULTI_WRITER), {}),
            (VOLUME, mount(fs_type="xfs"), {}),
            (VOLUME, mount(fs_type="zfs"), {}),
            (VOLUME, block(), {}),
            (BLOCK, mount(), {}),
            (VOLUME, mount(), {"pool": "slow"}),
            (VOLUME, mount(), {"csi.storage.k8s.io/fstype": "xfs"}),
        ],
    )
    def test_what_does_not_fit_is_said_and_not_confirmed(
        self, stubs: Stubs, volume: object, wanted: pb.VolumeCapability, parameters: dict[str, str]
    ) -> None:
        answer = self.ask(stubs, volume, wanted, **parameters)
        assert not answer.HasField("confirmed")
        assert answer.message

    def test_after_a_rebuilt_catalog_either_kind_may_be(self, stubs: Stubs, fake: FakeNode) -> None:
        fake.held[VOLUME] = device(1, fs_state=FsState.UNKNOWN, fs_type=None)
        assert self.ask(stubs, VOLUME, mount(fs_type="xfs")).HasField("confirmed")
        assert self.ask(stubs, VOLUME, block()).HasField("confirmed")

    def test_an_unknown_volume_is_not_found(self, stubs: Stubs, refused: Refused) -> None:
        request = pb.ValidateVolumeCapabilitiesRequest(volume_id=str(ABSENT), volume_capabilities=[mount()])
        assert refused(stubs.controller.ValidateVolumeCapabilities, request).code().name == "NOT_FOUND"


class TestListVolumes:
    def test_pages_cover_the_list_once_although_the_last_of_a_page_is_deleted(
        self, stubs: Stubs, fake: FakeNode
    ) -> None:
        fake.held = {handle(thin): device(thin) for thin in range(1, 8)}
        seen = []
        token = ""
        while True:
            page = stubs.controller.ListVolumes(pb.ListVolumesRequest(max_entries=2, starting_token=token))
            assert len(page.entries) <= 2
            seen += [entry.volume.volume_id for entry in page.entries]
            token = page.next_token
            if not token:
                break
            fake.held = {key: each for key, each in fake.held.items() if str(key) != seen[-1]}
        assert seen == [str(handle(thin)) for thin in range(1, 8)]

    def test_without_a_limit_the_rest_comes_at_once(self, stubs: Stubs, fake: FakeNode) -> None:
        fake.held = {handle(thin): device(thin) for thin in range(1, 8)}
        first = stubs.controller.ListVolumes(pb.ListVolumesRequest(max_entries=3))
        rest = stubs.controller.ListVolumes(pb.ListVolumesRequest(starting_token=first.next_token))
        assert len(rest.entries) == 4
        assert not rest.next_token

    @pytest.mark.parametrize("token", ["x", "volumes:", f"snapshots:{VOLUME}", str(VOLUME), "volumes:../x", "1"])
    def test_a_strange_token_is_aborted(self, stubs: Stubs, fake: FakeNode, refused: Refused, token: str) -> None:
        error = refused(stubs.controller.ListVolumes, pb.ListVolumesRequest(starting_token=token))
        assert error.code().name == "ABORTED"
        assert not fake.calls

    def test_the_content_source_is_told_as_what_it_is_while_it_lives(self, stubs: Stubs, fake: FakeNode) -> None:
        for thin, source in ((4, SNAPSHOT), (5, VOLUME), (6, ABSENT)):
            fake.held[handle(thin)] = device(thin, content_source=str(source))
        entries = stubs.controller.ListVolumes(pb.ListVolumesRequest()).entries
        assert [entry.volume.content_source for entry in entries][2:] == [
            from_snapshot(),
            from_volume(),
            pb.VolumeContentSource(),
        ]

    def test_a_huge_list_comes_in_pages_that_fit_a_message(self, stubs: Stubs, fake: FakeNode) -> None:
        fake.held = {handle(thin): device(thin) for thin in range(1, 5001)}
        page = stubs.controller.ListVolumes(pb.ListVolumesRequest())
        assert len(page.entries) == 4096
        assert page.next_token
        assert page.ByteSize() < 1 << 20

    def test_one_volume_can_be_asked_for(self, stubs: Stubs, refused: Refused) -> None:
        answer = stubs.controller.ControllerGetVolume(pb.ControllerGetVolumeRequest(volume_id=str(VOLUME)))
        assert answer.volume.volume_id == str(VOLUME)
        assert answer.HasField("status")
        for unknown in (str(ABSENT), "x", str(SNAPSHOT)):
            request = pb.ControllerGetVolumeRequest(volume_id=unknown)
            assert refused(stubs.controller.ControllerGetVolume, request).code().name == "NOT_FOUND"


class TestCapacity:
    def ask(self, stubs: Stubs, **fields: Any) -> tuple[int, int, int]:  # noqa: ANN401
        answer = stubs.controller.GetCapacity(pb.GetCapacityRequest(**fields))
        return answer.available_capacity, answer.maximum_volume_size.value, answer.minimum_volume_size.value

    def test_the_nodes_figures_are_passed_on(self, stubs: Stubs, fake: FakeNode) -> None:
        figures = (50 * GIB, 20 * GIB, 1 << 20)
        assert self.ask(stubs) == figures
        assert self.ask(stubs, accessible_topology=HERE, parameters={"pool": "fast"}) == figures
        assert fake.calls == [("capacity", (None,)), ("capacity", ("fast",))]

    def test_there_is_none_elsewhere_and_none_for_what_cannot_be(self, stubs: Stubs, fake: FakeNode) -> None:
        assert self.ask(stubs, accessible_topology=ELSEWHERE) == (0, 0, 0)
        assert self.ask(stubs, volume_capabilities=[mount(Mode.MULTI_NODE_READER_ONLY)]) == (0, 0, 0)
        assert not fake.calls

    @pytest.mark.parametrize(
        "failure",
        [
            UnavailableError("get capacity", "", "not open"),
            InvalidRequestError("get capacity", "", "no such pool"),
            NotFoundError("get capacity", "", "no such pool"),
        ],
    )
    def test_there_is_none_of_a_pool_that_is_not_here_or_not_open(
        self, stubs: Stubs, fake: FakeNode, failure: Exception
    ) -> None:
        """An error would leave the scheduler with the figure of a minute ago."""
        fake.failure = failure
        assert self.ask(stubs, parameters={"pool": "slow"}) == (0, 0, 0)

    def test_no_largest_volume_is_a_figure_too(self, stubs: Stubs) -> None:
        answer = stubs.controller.GetCapacity(pb.GetCapacityRequest(accessible_topology=ELSEWHERE))
        assert answer.HasField("maximum_volume_size")


class TestSnapshots:
    def test_a_snapshot_is_cut_and_described(self, stubs: Stubs, fake: FakeNode) -> None:
        answer = stubs.controller.CreateSnapshot(
            pb.CreateSnapshotRequest(name="s", source_volume_id=str(VOLUME))
        ).snapshot
        assert fake.changes == [("create_snapshot", ("s", VOLUME))]
        assert answer.source_volume_id == str(VOLUME)
        assert answer.size_bytes == 1 * GIB
        assert answer.ready_to_use
        assert answer.creation_time.ToNanoseconds() == CREATED
        assert list(answer.accessible_topology) == [HERE]
        assert not answer.group_snapshot_id

    def test_a_snapshot_elsewhere_is_refused(self, stubs: Stubs, fake: FakeNode, refused: Refused) -> None:
        request = pb.CreateSnapshotRequest(name="s", source_volume_id=str(VOLUME))
        request.accessibility_requirements.requisite.append(ELSEWHERE)
        assert refused(stubs.controller.CreateSnapshot, request).code().name == "RESOURCE_EXHAUSTED"
        assert not fake.calls

    def ids(self, stubs: Stubs, **fields: Any) -> list[str]:  # noqa: ANN401
        answer = stubs.controller.ListSnapshots(pb.ListSnapshotsRequest(**fields))
        return [entry.snapshot.snapshot_id for entry in answer.entries]

    def test_the_list_is_narrowed_by_id_and_by_source(self, stubs: Stubs, fake: FakeNode) -> None:
        fake.held = {handle(3): cut(3), handle(4): cut(4, 2), handle(5): cut(5)}
        three, four, five = (str(handle(thin)) for thin in (3, 4, 5))
        assert self.ids(stubs) == [three, four, five]
        assert self.ids(stubs, source_volume_id=str(VOLUME)) == [three, five]
        assert self.ids(stubs, snapshot_id=four) == [four]
        assert self.ids(stubs, snapshot_id=four, source_volume_id=str(VOLUME)) == []

    @pytest.mark.parametrize("key", ["snapshot_id", "source_volume_id"])
    @pytest.mark.parametrize("text", ["none-exist-id", str(ABSENT)])
    def test_an_unknown_filter_finds_nothing(self, stubs: Stubs, key: str, text: str) -> None:
        assert self.ids(stubs, **{key: text}) == []

    def test_a_list_that_lacks_a_pool_is_an_error_not_shorter(
        self, stubs: Stubs, fake: FakeNode, refused: Refused, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def closed(_wanted: object) -> None:
            raise UnavailableError("get snapshot", "x", "its pool is not open")

        monkeypatch.setattr(fake, "snapshot", closed)
        error = refused(stubs.controller.ListSnapshots, pb.ListSnapshotsRequest(snapshot_id=str(SNAPSHOT)))
        assert error.code().name == "UNAVAILABLE"

    def test_a_member_names_its_group_and_a_lost_one_is_not_ready(self, stubs: Stubs, fake: FakeNode) -> None:
        fake.held[SNAPSHOT] = cut(3, group=7, state=State.LOST)
        answer = stubs.controller.GetSnapshot(pb.GetSnapshotRequest(snapshot_id=str(SNAPSHOT))).snapshot
        assert answer.group_snapshot_id == "abcdefghij-g00000007"
        assert not answer.ready_to_use

    def test_a_source_known_by_its_thin_id_alone_is_told(self, stubs: Stubs, fake: FakeNode) -> None:
        fake.held[SNAPSHOT] = cut(3, origin=ThinId(1), content_source="")
        request = pb.ListSnapshotsRequest(source_volume_id=str(VOLUME))
        assert [entry.snapshot.source_volume_id for entry in stubs.controller.ListSnapshots(request).entries] == [
            str(VOLUME)
        ]


class TestExpand:
    def test_a_file_system_has_to_follow_at_the_node_a_raw_block_volume_has_none(
        self, stubs: Stubs, fake: FakeNode
    ) -> None:
        size = pb.CapacityRange(required_bytes=3 * GIB, limit_bytes=4 * GIB)
        for volume, follows in ((VOLUME, True), (BLOCK, False)):
            request = pb.ControllerExpandVolumeRequest(volume_id=str(volume), capacity_range=size)
            answer = stubs.controller.ControllerExpandVolume(request)
            assert (answer.capacity_bytes, answer.node_expansion_required) == (3 * GIB, follows)
        assert fake.changes[0] == ("expand_volume", (VOLUME, 3 * GIB, 4 * GIB))

    @pytest.mark.parametrize("wanted", [block(), mount(fs_type="xfs"), mount(Mode.MULTI_NODE_MULTI_WRITER)])
    def test_a_capability_that_the_volume_lacks_is_refused(
        self, stubs: Stubs, fake: FakeNode, refused: Refused, wanted: pb.VolumeCapability
    ) -> None:
        size = pb.CapacityRange(required_bytes=3 * GIB)
        request = pb.ControllerExpandVolumeRequest(volume_id=str(VOLUME), capacity_range=size, volume_capability=wanted)
        assert refused(stubs.controller.ControllerExpandVolume, request).code().name == "INVALID_ARGUMENT"
        assert not fake.changes


class TestHealth:
    def test_what_is_wrong_is_told_once_for_each_status_and_reason(self, stubs: Stubs, fake: FakeNode) -> None:
        fake.conditions = [
            Condition("PoolFull", "no space", Severity.DEGRADED),
            Condition("PoolFull", "extend it", Severity.DEGRADED),
            Condition("PoolFull", "no space", Severity.DEGRADED),
            Condition("NeedsRepair", "lost", Severity.DATA_LOSS),
            Condition("DeviceMissing", "gone", Severity.INACCESSIBLE),
            Condition("Extended", "nothing is wrong", Severity.INFO),
        ]
        request = pb.ControllerGetVolumeHealthRequest(volume_id=str(VOLUME))
        health = stubs.controller.ControllerGetVolumeHealth(request).volume_health
        assert health.volume_id == str(VOLUME)
        assert [(each.status, each.reason, each.message) for each in health.health_statuses] == [
            (pb.DEGRADED, "PoolFull", "no space; extend it"),
            (pb.DATA_LOSS, "NeedsRepair", "lost"),
            (pb.INACCESSIBLE, "DeviceMissing", "gone"),
        ]

    def test_only_ailing_volumes_are_listed(self, stubs: Stubs, fake: FakeNode) -> None:
        assert not stubs.controller.ControllerListVolumeHealth(pb.ControllerListVolumeHealthRequest()).entries
        fake.conditions = [Condition("PoolFull", "no space", Severity.DEGRADED)]
        answer = stubs.controller.ControllerListVolumeHealth(pb.ControllerListVolumeHealthRequest())
        assert [entry.volume_id for entry in answer.entries] == [str(VOLUME)]

    def test_while_a_pool_is_not_open_its_volumes_do_not_pass_for_healthy(
        self, stubs: Stubs, fake: FakeNode, refused: Refused
    ) -> None:
        fake.closed = "fast"
        error = refused(stubs.controller.ControllerListVolumeHealth, pb.ControllerListVolumeHealthRequest())
        assert error.code().name == "UNAVAILABLE"

    def test_an_unknown_volume_is_not_found(self, stubs: Stubs, refused: Refused) -> None:
        request = pb.ControllerGetVolumeHealthRequest(volume_id=str(ABSENT))
        assert refused(stubs.controller.ControllerGetVolumeHealth, request).code().name == "NOT_FOUND"
