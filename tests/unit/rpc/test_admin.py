"""What the command line is told by a running node."""

from collections.abc import Callable
from dataclasses import fields
from typing import Any

import pytest

from csi.pb.thinpool.v1 import admin_pb2 as pb
from csi.volumes.reports import PoolReport
from tests.unit.rpc.conftest import Stubs
from tests.unit.rpc.fake import BLOCK, POOL, POOL_REPORT, SNAPSHOT, VOLUME, FakeNode

Refused = Callable[..., Any]


def test_every_figure_of_a_pool_is_passed_on(stubs: Stubs) -> None:
    answer = stubs.admin.GetNode(pb.GetNodeRequest())
    assert (answer.library_version, dict(answer.target_versions)) == ("4.47.0", {"thin": "1.22.0"})
    (pool,) = answer.pools
    for field in fields(PoolReport):
        wanted = getattr(POOL_REPORT, field.name)
        found = getattr(pool, field.name)
        assert found == (list(wanted) if isinstance(wanted, tuple) else wanted), field.name
    assert pool.pool_id == POOL


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        (pb.DEVICE_KIND_UNSPECIFIED, [VOLUME, BLOCK, SNAPSHOT]),
        (pb.DEVICE_KIND_VOLUME, [VOLUME, BLOCK]),
        (pb.DEVICE_KIND_SNAPSHOT, [SNAPSHOT]),
    ],
)
def test_devices_are_listed_by_kind(stubs: Stubs, kind: pb.DeviceKind.ValueType, expected: list[object]) -> None:
    found = stubs.admin.ListDevices(pb.ListDevicesRequest(kind=kind)).devices
    assert [each.handle for each in found] == [str(each) for each in expected]


def test_nothing_mapped_and_not_known_are_told_apart(stubs: Stubs) -> None:
    (found,) = stubs.admin.ListDevices(pb.ListDevicesRequest(kind=pb.DEVICE_KIND_SNAPSHOT)).devices
    assert found.HasField("mapped")
    assert found.mapped == 0
    assert not found.HasField("exclusive")
    assert found.origin == str(VOLUME)


def test_a_kind_of_a_later_version_is_refused(stubs: Stubs, fake: FakeNode, refused: Refused) -> None:
    request = pb.ListDevicesRequest(kind=9)  # type: ignore[arg-type] # not one of this version's
    assert refused(stubs.admin.ListDevices, request).code().name == "INVALID_ARGUMENT"
    assert not fake.calls


@pytest.mark.parametrize("rebuild", [False, True])
def test_a_check_tells_what_it_found(stubs: Stubs, fake: FakeNode, *, rebuild: bool) -> None:
    answer = stubs.admin.Check(pb.CheckRequest(rebuild=rebuild))
    assert fake.calls == [("check", (rebuild,))]
    assert (answer.pools, answer.devices, dict(answer.thin_check)) == (1, 3, {"fast": "ok"})
    assert [(each.pool, each.subject, each.handle) for each in answer.findings] == [("fast", "catalog", str(VOLUME))]
