"""One line a request, codes for every error, and no secret anywhere."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from structlog.typing import EventDict

from csi.errors import InvalidRequestError, KernelError, StateError
from csi.pb.csi.v1 import csi_pb2 as pb
from csi.rpc.redact import STRIPPED
from tests.unit.rpc import requests
from tests.unit.rpc.conftest import Stubs
from tests.unit.rpc.fake import SNAPSHOT, VOLUME, FakeNode, handle
from tests.unit.rpc.requests import SECRETS

Refused = Callable[..., Any]
(SECRET,) = SECRETS.values()


def only(lines: list[EventDict]) -> dict[str, Any]:
    (line,) = (dict(line) for line in lines if line["event"] == "request")
    assert line.pop("duration_ms") >= 0
    line.pop("event")
    return line


def test_a_request_leaves_one_line_with_its_objects(stubs: Stubs, lines: list[EventDict]) -> None:
    stubs.controller.CreateVolume(requests.create_volume())
    assert only(lines) == {
        "method": "Controller.CreateVolume",
        "code": "OK",
        "log_level": "info",
        "name": "pvc-1",
        "volume": str(handle(0x10)),
    }


@pytest.mark.parametrize("key", requests.valid())
def test_a_line_holds_nothing_but_names_ids_and_figures(stubs: Stubs, lines: list[EventDict], key: str) -> None:
    name, request = requests.valid()[key]
    service, _, call = name.partition(".")
    getattr(getattr(stubs, service), call)(request)
    line = only(lines)
    assert line["code"] == "OK"
    assert set(line) <= {"method", "code", "log_level", "volume", "snapshot", "group", "name", "target"}
    assert SECRET not in json.dumps(line)


def test_what_is_polled_is_said_only_when_asked_for_or_when_it_fails(
    stubs: Stubs, fake: FakeNode, lines: list[EventDict], refused: Refused
) -> None:
    stubs.identity.Probe(pb.ProbeRequest())
    stubs.controller.GetCapacity(pb.GetCapacityRequest())
    stubs.node.NodeGetVolumeStats(pb.NodeGetVolumeStatsRequest(volume_id=str(VOLUME), volume_path="/x"))
    assert {line["log_level"] for line in lines} == {"debug"}
    fake.failure = StateError("measure", "it", "not mounted")
    refused(stubs.node.NodeGetVolumeStats, pb.NodeGetVolumeStatsRequest(volume_id=str(VOLUME), volume_path="/x"))
    assert lines[-1]["log_level"] == "warning"


def test_a_refusal_is_said_with_its_reason(
    stubs: Stubs, fake: FakeNode, lines: list[EventDict], refused: Refused
) -> None:
    fake.failure = StateError("delete volume", str(VOLUME), "it is in use", way_out="unpublish it first")
    error = refused(stubs.controller.DeleteVolume, pb.DeleteVolumeRequest(volume_id=str(VOLUME)))
    text = f"delete volume {VOLUME}: it is in use; unpublish it first"
    assert error.details() == text
    assert only(lines) == {
        "method": "Controller.DeleteVolume",
        "code": "FAILED_PRECONDITION",
        "log_level": "warning",
        "volume": str(VOLUME),
        "error": text,
    }


def test_the_kernels_errno_comes_through_as_internal(
    stubs: Stubs, fake: FakeNode, lines: list[EventDict], refused: Refused
) -> None:
    fake.failure = KernelError("create device", "x", "refused", errno=5)
    error = refused(stubs.controller.DeleteSnapshot, pb.DeleteSnapshotRequest(snapshot_id=str(SNAPSHOT)))
    assert error.code().name == "INTERNAL"
    assert "EIO" in error.details()
    assert only(lines)["log_level"] == "error"


def test_an_unforeseen_error_is_told_to_the_log_alone(
    stubs: Stubs, fake: FakeNode, lines: list[EventDict], refused: Refused
) -> None:
    fake.failure = ZeroDivisionError("of the tenant's data")
    error = refused(stubs.controller.DeleteVolume, pb.DeleteVolumeRequest(volume_id=str(VOLUME)))
    assert error.code().name == "INTERNAL"
    assert "tenant" not in error.details()
    line = only(lines)
    assert line["log_level"] == "error"
    assert "fake.py" in line["traceback"]
    assert line["error"] == "ZeroDivisionError: of the tenant's data"
    assert str(line["number"]) in error.details()


@pytest.mark.parametrize(
    "failure",
    [InvalidRequestError("check", "it", f"bad {SECRET}"), RuntimeError(f"bad {SECRET}")],
    ids=["foreseen", "unforeseen"],
)
@pytest.mark.parametrize("key", ["create", "delete", "snapshot", "stage", "publish", "group", "storage health"])
def test_a_secret_is_cut_out_of_every_text(
    stubs: Stubs, fake: FakeNode, lines: list[EventDict], refused: Refused, failure: Exception, key: str
) -> None:
    fake.failure = failure
    name, request = requests.valid()[key]
    service, _, call = name.partition(".")
    error = refused(getattr(getattr(stubs, service), call), request)
    said = json.dumps(only(lines))
    assert SECRET not in said
    assert STRIPPED in said
    assert SECRET not in error.details()


def test_a_service_account_token_is_a_secret(
    stubs: Stubs, fake: FakeNode, lines: list[EventDict], refused: Refused
) -> None:
    request = requests.publish()
    request.volume_context["csi.storage.k8s.io/serviceAccount.tokens"] = "eyJhbGciOi"
    fake.failure = RuntimeError("eyJhbGciOi")
    refused(stubs.node.NodePublishVolume, request)
    assert "eyJhbGciOi" not in json.dumps(only(lines))


def test_a_name_cannot_forge_a_line(stubs: Stubs, lines: list[EventDict]) -> None:
    request = requests.create_volume()
    request.name = 'x\nlevel=info msg="all is well"'
    stubs.controller.CreateVolume(request)
    assert "\n" not in only(lines)["name"]


def test_a_huge_field_neither_fills_the_log_nor_the_answer(
    stubs: Stubs, lines: list[EventDict], refused: Refused
) -> None:
    request = pb.DeleteVolumeRequest(volume_id="я" * (1 << 20))
    error = refused(stubs.controller.DeleteVolume, request)
    assert error.code().name == "INVALID_ARGUMENT"
    assert len(error.details()) < 500
    assert len(json.dumps(only(lines))) < 1000


def test_a_long_reason_still_fits_the_header_that_carries_it(stubs: Stubs, fake: FakeNode, refused: Refused) -> None:
    fake.failure = StateError("do", "it", "ж" * 100_000)
    error = refused(stubs.controller.DeleteVolume, pb.DeleteVolumeRequest(volume_id=str(VOLUME)))
    assert error.code().name == "FAILED_PRECONDITION"
    assert error.details().endswith("ж…")


def test_an_undecodable_request_leaves_a_line_too(stubs: Stubs, lines: list[EventDict]) -> None:
    method: Any = stubs.channel.unary_unary("/csi.v1.Controller/DeleteVolume")
    with pytest.raises(Exception, match="not a message of this call"):
        method(b"\xff")
    assert only(lines)["code"] == "INVALID_ARGUMENT"
