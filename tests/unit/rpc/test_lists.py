"""Lists are whole or none."""

from collections.abc import Callable
from typing import Any

import grpc
import pytest

from csi.pb.csi.v1 import csi_pb2 as pb
from tests.unit.rpc.conftest import Stubs
from tests.unit.rpc.fake import SNAPSHOT, FakeNode

LISTS: dict[str, Callable[[Stubs], Any]] = {
    "volumes": lambda stubs: stubs.controller.ListVolumes(pb.ListVolumesRequest()),
    "snapshots": lambda stubs: stubs.controller.ListSnapshots(pb.ListSnapshotsRequest()),
}


@pytest.mark.parametrize("what", LISTS)
def test_a_node_with_a_pool_that_is_not_open_lists_nothing(stubs: Stubs, fake: FakeNode, what: str) -> None:
    assert LISTS[what](stubs).entries
    fake.closed = "fast"
    with pytest.raises(grpc.RpcError, match="pool fast is not open") as caught:
        LISTS[what](stubs)
    error: Any = caught.value
    assert error.code() is grpc.StatusCode.UNAVAILABLE


def test_one_snapshot_is_found_whatever_else_is_closed(stubs: Stubs, fake: FakeNode) -> None:
    fake.closed = "other"
    request = pb.ListSnapshotsRequest(snapshot_id=str(SNAPSHOT))
    assert len(stubs.controller.ListSnapshots(request).entries) == 1
