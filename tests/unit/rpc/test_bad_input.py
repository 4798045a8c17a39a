"""Every field of every request: missing, too long, hostile. Nothing of it may reach the node."""

from collections.abc import Callable, Iterator
from operator import attrgetter
from typing import Any

import grpc
import pytest
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from csi.pb.csi.v1 import csi_pb2 as pb
from tests.unit.rpc import requests
from tests.unit.rpc.conftest import Stubs
from tests.unit.rpc.fake import FakeNode

INVALID = "INVALID_ARGUMENT"
PATHS = {"staging_target_path", "target_path", "volume_path", "volume_publish_path"}
Refused = Callable[..., Any]
Place = tuple[str | int, ...]


def call(stubs: Stubs, name: str) -> Callable[[Message], Message]:
    method: Callable[[Message], Message] = attrgetter(name)(stubs)
    return method


def code(stubs: Stubs, name: str, request: Message) -> str:
    try:
        call(stubs, name)(request)
    except grpc.RpcError as error:
        return str(error.code().name)
    return "OK"


def fields(message: Message, place: Place = ()) -> Iterator[tuple[Place, Any]]:
    """Find every field of a message, and of those within it that are set."""
    for field in message.DESCRIPTOR.fields:
        yield (*place, field.name), field
    for field, value in message.ListFields():
        if field.message_type is None or field.message_type.GetOptions().map_entry:
            continue
        if field.is_repeated:
            yield from fields(value[0], (*place, field.name, 0))
        else:
            yield from fields(value, (*place, field.name))


def damaged(request: Message, place: Place, value: object) -> Message:
    """Return a copy with another value at one place; None clears it."""
    copy = type(request)()
    copy.CopyFrom(request)
    owner: Any = copy
    for step in place[:-1]:
        owner = owner[step] if isinstance(step, int) else getattr(owner, step)
    name = str(place[-1])
    if value is None:
        owner.ClearField(name)
        return copy
    field = owner.DESCRIPTOR.fields_by_name[name]
    if isinstance(value, dict):
        getattr(owner, name).update(value)
    elif field.is_repeated:
        getattr(owner, name).append(value)
    else:
        setattr(owner, name, value)
    return copy


def is_map(field: FieldDescriptor) -> bool:
    return field.message_type is not None and field.message_type.GetOptions().map_entry


Case = tuple[str, Message]


def cases(wanted: Callable[[FieldDescriptor], bool]) -> list[Any]:
    """List every place in every request whose field is wanted."""
    return [
        pytest.param(name, request, place, id=f"{key}-{'.'.join(map(str, place))}")
        for key, (name, request) in requests.valid().items()
        for place, field in fields(request)
        if wanted(field)
    ]


@pytest.mark.parametrize("key", requests.valid())
def test_the_undamaged_request_is_answered(stubs: Stubs, fake: FakeNode, key: str) -> None:
    name, request = requests.valid()[key]
    assert code(stubs, name, request) == "OK"
    assert fake.calls


@pytest.mark.parametrize("size", [1, 1 << 20], ids=["one-byte", "1MiB"])
@pytest.mark.parametrize(("name", "request_", "place"), cases(lambda field: field.type == FieldDescriptor.TYPE_STRING))
def test_a_string_beyond_its_limit_is_refused(
    stubs: Stubs, fake: FakeNode, name: str, request_: Message, place: Place, size: int
) -> None:
    limit = 4095 if place[-1] in PATHS else 4096 if place[-1] == "mount_flags" else 128
    text = "/" + "é" * (limit // 2) + "x" * size
    expected = "ABORTED" if place[-1] == "starting_token" else INVALID
    assert code(stubs, name, damaged(request_, place, text)) == expected
    assert not fake.calls


@pytest.mark.parametrize("size", [4096, 1 << 20], ids=["4KiB", "1MiB"])
@pytest.mark.parametrize(("name", "request_", "place"), cases(is_map))
def test_a_map_beyond_its_limit_is_refused(
    stubs: Stubs, fake: FakeNode, name: str, request_: Message, place: Place, size: int
) -> None:
    text = {"csi.storage.k8s.io/x": "x" * size}
    assert code(stubs, name, damaged(request_, place, text)) == INVALID
    assert not fake.calls


def test_names_and_ids_of_the_full_length_are_taken(stubs: Stubs, fake: FakeNode) -> None:
    request = requests.create_volume()
    request.name = "n" * 128
    assert code(stubs, "controller.CreateVolume", request) == "OK"
    assert fake.changes[0][1][0].name == "n" * 128


NUMBERS = {FieldDescriptor.TYPE_INT64, FieldDescriptor.TYPE_INT32}


@pytest.mark.parametrize("number", [-1, -(1 << 31)])
@pytest.mark.parametrize(("name", "request_", "place"), cases(lambda field: field.type in NUMBERS))
def test_a_negative_number_is_refused(
    stubs: Stubs, fake: FakeNode, name: str, request_: Message, place: Place, number: int
) -> None:
    assert code(stubs, name, damaged(request_, place, number)) == INVALID
    assert not fake.changes


NOT_FOUND = "NOT_FOUND"
PRECONDITION = "FAILED_PRECONDITION"
# A field, and its code for a traversal and for a NUL; the call where it differs.
HOSTILE: dict[str, tuple[str, str]] = {
    # Names may be any text but control characters, and are never part of a path.
    "name": ("OK", INVALID),
    "volume_id": (NOT_FOUND, NOT_FOUND),
    "source_volume_id": (NOT_FOUND, NOT_FOUND),
    "snapshot_id": (NOT_FOUND, NOT_FOUND),
    "group_snapshot_id": (NOT_FOUND, NOT_FOUND),
    "source_volume_ids": (NOT_FOUND, NOT_FOUND),
    "snapshot_ids": (INVALID, INVALID),
    "staging_target_path": (INVALID, INVALID),
    "target_path": (INVALID, INVALID),
    "volume_publish_path": (INVALID, INVALID),
    # A volume cannot be where no path can be (csi-sanity: NodeGetVolumeStats).
    "volume_path": (NOT_FOUND, NOT_FOUND),
    "fs_type": (INVALID, INVALID),
    "mount_flags": (INVALID, INVALID),
    "volume_mount_group": (INVALID, INVALID),
    "starting_token": ("ABORTED", "ABORTED"),
}
HOSTILE_IN_CALL: dict[tuple[str, str], tuple[str, str]] = {
    # What cannot be ours is deleted already, and matches no filter of a list.
    ("controller.DeleteVolume", "volume_id"): ("OK", "OK"),
    ("controller.DeleteSnapshot", "snapshot_id"): ("OK", "OK"),
    ("group.DeleteVolumeGroupSnapshot", "group_snapshot_id"): ("OK", "OK"),
    ("controller.ListSnapshots", "snapshot_id"): ("OK", "OK"),
    ("controller.ListSnapshots", "source_volume_id"): ("OK", "OK"),
    # Nothing is created for what is not supported: no capacity.
    ("controller.GetCapacity", "fs_type"): ("OK", "OK"),
    ("controller.GetCapacity", "volume_mount_group"): ("OK", "OK"),
    ("controller.GetCapacity", "mount_flags"): ("OK", INVALID),
    # Not supported, hence not confirmed.
    ("controller.ValidateVolumeCapabilities", "fs_type"): ("OK", "OK"),
    ("controller.ValidateVolumeCapabilities", "volume_mount_group"): ("OK", "OK"),
    ("controller.ValidateVolumeCapabilities", "mount_flags"): ("OK", INVALID),
    ("controller.ControllerExpandVolume", "mount_flags"): ("OK", INVALID),
    ("node.NodeExpandVolume", "mount_flags"): ("OK", INVALID),
    # CSI: "Exceeds capabilities" of these two. Flags are read where the file system is known: by the node.
    ("node.NodeStageVolume", "fs_type"): (PRECONDITION, PRECONDITION),
    ("node.NodeStageVolume", "volume_mount_group"): (PRECONDITION, PRECONDITION),
    ("node.NodeStageVolume", "mount_flags"): ("OK", INVALID),
    ("node.NodePublishVolume", "fs_type"): (PRECONDITION, PRECONDITION),
    ("node.NodePublishVolume", "volume_mount_group"): (PRECONDITION, PRECONDITION),
    ("node.NodePublishVolume", "mount_flags"): ("OK", INVALID),
}
PASSED_ON = {"name", "mount_flags"}


@pytest.mark.parametrize("kind", [0, 1], ids=["traversal", "NUL"])
@pytest.mark.parametrize(("name", "request_", "place"), cases(lambda field: field.type == FieldDescriptor.TYPE_STRING))
def test_a_hostile_string_gets_its_code_and_changes_nothing(
    stubs: Stubs, fake: FakeNode, name: str, request_: Message, place: Place, kind: int
) -> None:
    field = str(place[-1])
    text = ("../../../etc/passwd", "/a\0b")[kind]
    expected = HOSTILE_IN_CALL.get((name, field), HOSTILE[field])
    if isinstance(request_, pb.NodePublishVolumeRequest) and not request_.staging_target_path:
        # An inline volume's id is the caller's own invention, and it is not staged.
        expected = {"volume_id": (INVALID, INVALID), "staging_target_path": ("OK", "OK")}.get(field, expected)
    assert code(stubs, name, damaged(request_, place, text)) == expected[kind]
    if field not in PASSED_ON:
        assert text not in repr(fake.calls)
    if expected[kind] != "OK":
        assert not fake.changes


@pytest.mark.parametrize(("name", "request_", "place"), cases(is_map))
def test_an_unknown_key_is_refused_wherever_it_would_be_ignored(
    stubs: Stubs, fake: FakeNode, name: str, request_: Message, place: Place
) -> None:
    expected = {
        "secrets": "OK",  # A caller may pass the same to all calls; none is needed, none is looked at.
        "segments": "OK" if name == "controller.GetCapacity" else "RESOURCE_EXHAUSTED",
    }.get(str(place[-1]), INVALID)
    if place[-1] == "segments" and "preferred" in place:
        expected = "OK"  # A wish, not a condition.
    if place[-1] == "segments" and isinstance(request_, pb.CreateVolumeRequest):
        expected = "OK"  # The other requisite topology is still this node's.
    assert code(stubs, name, damaged(request_, place, {"../pool": "x"})) == expected
    if expected != "OK":
        assert not fake.changes


REQUIRED = [
    ("create", "name", INVALID),
    ("create", "volume_capabilities", INVALID),
    ("delete", "volume_id", INVALID),
    ("validate", "volume_id", INVALID),
    ("validate", "volume_capabilities", INVALID),
    ("get volume", "volume_id", INVALID),
    ("snapshot", "name", INVALID),
    ("snapshot", "source_volume_id", INVALID),
    ("delete snapshot", "snapshot_id", INVALID),
    ("get snapshot", "snapshot_id", INVALID),
    ("expand", "volume_id", INVALID),
    ("expand", "capacity_range", INVALID),
    ("volume health", "volume_id", INVALID),
    ("group", "name", INVALID),
    ("group", "source_volume_ids", INVALID),
    ("delete group", "group_snapshot_id", INVALID),
    ("delete group", "snapshot_ids", INVALID),
    ("get group", "group_snapshot_id", INVALID),
    ("get group", "snapshot_ids", INVALID),
    ("stage", "volume_id", INVALID),
    ("stage", "staging_target_path", INVALID),
    ("stage", "volume_capability", INVALID),
    ("unstage", "volume_id", INVALID),
    ("unstage", "staging_target_path", INVALID),
    ("publish", "volume_id", INVALID),
    ("publish", "target_path", INVALID),
    ("publish", "volume_capability", INVALID),
    ("publish", "staging_target_path", PRECONDITION),
    ("publish inline", "volume_id", INVALID),
    ("publish inline", "target_path", INVALID),
    ("publish inline", "volume_capability", INVALID),
    ("unpublish", "volume_id", INVALID),
    ("unpublish", "target_path", INVALID),
    ("stats", "volume_id", INVALID),
    ("stats", "volume_path", INVALID),
    ("node expand", "volume_id", INVALID),
    ("node expand", "volume_path", INVALID),
    ("node health", "volume_id", INVALID),
]


@pytest.mark.parametrize(("key", "field", "expected"), REQUIRED)
def test_a_missing_field_is_refused(stubs: Stubs, fake: FakeNode, key: str, field: str, expected: str) -> None:
    name, request = requests.valid()[key]
    assert code(stubs, name, damaged(request, (field,), None)) == expected
    assert not fake.calls


@pytest.mark.parametrize("key", requests.valid())
def test_an_empty_request_never_fails_in_an_unforeseen_way(stubs: Stubs, fake: FakeNode, key: str) -> None:
    name, request = requests.valid()[key]
    assert code(stubs, name, type(request)()) in (INVALID, "OK")
    assert not [call for call in fake.changes if call[0] not in ("capacity", "storage_health", "volumes_health")]


def raw_call(stubs: Stubs, name: str, raw: bytes) -> str:
    method: Any = stubs.channel.unary_unary(f"/csi.v1.{name}")
    try:
        method(raw)
    except grpc.RpcError as error:
        return str(error.code().name)
    return "OK"


def test_a_size_of_two_to_the_63_arrives_as_negative_and_is_refused(stubs: Stubs, fake: FakeNode) -> None:
    # Field 2, capacity_range, with field 1, required_bytes, as the varint of 2^63.
    number = b"\x80" * 9 + b"\x01"
    request = requests.create_volume()
    request.ClearField("capacity_range")
    raw = request.SerializeToString() + bytes([0x12, len(number) + 1, 0x08]) + number
    assert raw_call(stubs, "Controller/CreateVolume", raw) == INVALID
    assert not fake.calls


@pytest.mark.parametrize("size", [(1 << 60) + 1, (1 << 63) - 1])
@pytest.mark.parametrize("key", ["create", "expand", "node expand"])
def test_a_size_that_nothing_can_have_is_out_of_range(stubs: Stubs, fake: FakeNode, key: str, size: int) -> None:
    name, request = requests.valid()[key]
    request = damaged(request, ("capacity_range",), None)
    request = damaged(request, ("capacity_range", "required_bytes"), size)
    assert code(stubs, name, request) == "OUT_OF_RANGE"
    assert not fake.calls


@pytest.mark.parametrize("key", ["create", "expand", "node expand"])
def test_a_range_with_nothing_in_it_is_refused(stubs: Stubs, fake: FakeNode, key: str) -> None:
    name, request = requests.valid()[key]
    assert code(stubs, name, damaged(request, ("capacity_range", "limit_bytes"), 4096)) == INVALID
    assert not fake.calls


@pytest.mark.parametrize(
    "raw",
    [b"\xff\xff\xff", b"\x0a\xff", b"\x0a\x02\xff\xfe", b"\x00" * 64],
    ids=["no message", "cut short", "not UTF-8", "zeros"],
)
@pytest.mark.parametrize("name", ["Controller/CreateVolume", "Node/NodeUnpublishVolume", "Controller/DeleteVolume"])
def test_what_is_no_message_is_refused(stubs: Stubs, fake: FakeNode, name: str, raw: bytes) -> None:
    assert raw_call(stubs, name, raw) == INVALID
    assert not fake.calls


def test_a_message_beyond_four_mebibytes_is_not_even_read(stubs: Stubs, fake: FakeNode) -> None:
    raw = pb.CreateVolumeRequest(name="x" * (4 << 20)).SerializeToString()
    assert raw_call(stubs, "Controller/CreateVolume", raw) == "RESOURCE_EXHAUSTED"
    assert not fake.calls


@pytest.mark.parametrize(
    ("service", "name"),
    [
        ("controller.ControllerPublishVolume", pb.ControllerPublishVolumeRequest()),
        ("controller.ControllerUnpublishVolume", pb.ControllerUnpublishVolumeRequest()),
        ("controller.ControllerModifyVolume", pb.ControllerModifyVolumeRequest()),
    ],
    ids=["publish", "unpublish", "modify"],
)
def test_a_call_without_its_capability_is_not_implemented(stubs: Stubs, service: str, name: Message) -> None:
    assert code(stubs, service, name) == "UNIMPLEMENTED"
