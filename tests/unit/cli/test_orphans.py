"""``thinpool-csi orphans``: shown as the ThinPoolNodes tell of them, removed only on a person's word."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import pytest

from csi.pb.csi.v1 import csi_pb2 as pb
from csi.pb.csi.v1.csi_pb2_grpc import (
    ControllerServicer,
    GroupControllerServicer,
    add_ControllerServicer_to_server,
    add_GroupControllerServicer_to_server,
)
from tests.unit.cli.conftest import Command, write_kubeconfig
from tests.unit.kube.fake import FakeApi

VOLUME, SNAPSHOT = "aaaaaaaaaa-00000001", "aaaaaaaaaa-00000002"
MEMBERS = ["aaaaaaaaaa-00000003", "aaaaaaaaaa-00000004"]
GROUP = "aaaaaaaaaa-g00000003"
SINCE = "2026-01-01T00:00:00Z"
IN_USE = "aaaaaaaaaa-00000009"


def orphan(handle: str, kind: str, **more: str) -> dict[str, str]:
    return {"handle": handle, "kind": kind, "since": SINCE, **more}


class Controller(ControllerServicer, GroupControllerServicer):
    """Takes deletions; what is in use it refuses."""

    def __init__(self) -> None:
        self.deleted: list[Any] = []

    def DeleteVolume(self, request: Any, context: grpc.ServicerContext) -> pb.DeleteVolumeResponse:  # noqa: ANN401, N802
        if request.volume_id == IN_USE:
            context.abort(grpc.StatusCode.FAILED_PRECONDITION, "it is staged")
        self.deleted.append(request.volume_id)
        return pb.DeleteVolumeResponse()

    def DeleteSnapshot(self, request: Any, context: grpc.ServicerContext) -> pb.DeleteSnapshotResponse:  # noqa: ANN401, ARG002, N802
        self.deleted.append(request.snapshot_id)
        return pb.DeleteSnapshotResponse()

    def DeleteVolumeGroupSnapshot(  # noqa: N802
        self,
        request: Any,  # noqa: ANN401
        context: grpc.ServicerContext,  # noqa: ARG002
    ) -> pb.DeleteVolumeGroupSnapshotResponse:
        self.deleted.append((request.group_snapshot_id, list(request.snapshot_ids)))
        return pb.DeleteVolumeGroupSnapshotResponse()


@pytest.fixture
def controller(tmp_path: Path) -> Iterator[Controller]:
    made = Controller()
    server = grpc.server(ThreadPoolExecutor(2))
    add_ControllerServicer_to_server(made, server)
    add_GroupControllerServicer_to_server(made, server)
    server.add_insecure_port(f"unix:{tmp_path}/csi.sock")
    server.start()
    yield made
    server.stop(None).wait(10)


@pytest.fixture
def arguments(tmp_path: Path, fake_api: FakeApi) -> list[str]:
    """How the command reaches the stand-ins; a node tells of orphans."""
    kubeconfig = write_kubeconfig(tmp_path, fake_api)
    fake_api.objects["/apis/thinpool-csi.dev/v1alpha1/thinpoolnodes/fast.a"] = {
        "metadata": {"name": "fast.a"},
        "spec": {"poolName": "fast", "nodeName": "a"},
        "status": {
            "orphans": [
                orphan(VOLUME, "Volume"),
                orphan(SNAPSHOT, "Snapshot"),
                *(orphan(each, "Snapshot", group=GROUP) for each in MEMBERS),
                orphan(IN_USE, "Volume"),
            ]
        },
    }
    return ["orphans", f"--kubeconfig={kubeconfig}", f"--endpoint=unix://{tmp_path}/csi.sock"]


def test_they_are_listed_with_pool_and_node(command: Command, arguments: list[str]) -> None:
    said = command(*arguments)
    assert said.status == 0
    head, first, *_ = said.out.splitlines()
    assert head.split() == ["HANDLE", "KIND", "POOL", "NODE", "GROUP", "SINCE"]
    assert first.split() == [VOLUME, "Volume", "fast", "a", "-", SINCE]
    assert command(*arguments, "--output=json").json["orphans"][2]["group"] == GROUP


def test_those_that_are_named_are_removed_a_member_with_its_group(
    command: Command, arguments: list[str], controller: Controller
) -> None:
    said = command(*arguments, *(f"--remove={each}" for each in (VOLUME, SNAPSHOT, MEMBERS[1])))
    assert said.status == 0
    assert controller.deleted == [VOLUME, SNAPSHOT, (GROUP, MEMBERS)]
    assert said.out.splitlines()[0] == f"removed {VOLUME}"


def test_what_is_no_orphan_is_not_removed(command: Command, arguments: list[str], controller: Controller) -> None:
    said = command(*arguments, "--remove=aaaaaaaaaa-00000077")
    assert said.status == 1
    assert "not told of as an orphan" in said.err
    assert not controller.deleted


def test_what_an_object_names_by_now_is_not_removed(
    command: Command, arguments: list[str], controller: Controller, fake_api: FakeApi
) -> None:
    csi = {"driver": "thinpool-csi.dev", "volumeHandle": VOLUME}
    fake_api.objects["/api/v1/persistentvolumes/pv"] = {"metadata": {"name": "pv"}, "spec": {"csi": csi}}
    content = {"driver": "thinpool-csi.dev", "source": {"snapshotHandle": MEMBERS[0]}}
    path = "/apis/snapshot.storage.k8s.io/v1/volumesnapshotcontents/c"
    fake_api.objects[path] = {"metadata": {"name": "c"}, "spec": content}
    said = command(*arguments, f"--remove={VOLUME}", f"--remove={MEMBERS[1]}")
    assert said.status == 1
    assert said.err.count("names it now") == 2
    assert not controller.deleted


def test_one_that_the_node_keeps_is_told_of_and_the_others_go(
    command: Command, arguments: list[str], controller: Controller
) -> None:
    said = command(*arguments, f"--remove={IN_USE}", f"--remove={VOLUME}")
    assert said.status == 1
    assert "FAILED_PRECONDITION: it is staged" in said.err
    assert controller.deleted == [VOLUME]


def test_a_cluster_out_of_reach_is_an_error_in_one_line(command: Command, tmp_path: Path) -> None:
    said = command("orphans", f"--kubeconfig={tmp_path}/none")
    assert said.status == 1
    assert len(said.err.splitlines()) == 1
