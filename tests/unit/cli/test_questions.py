"""info, volumes, snapshots and check, asked of a node that runs."""

import dataclasses
import io
import json
import os
import socket as sockets
from pathlib import Path

import pytest

from csi.errors import UnavailableError
from csi.kube.claims import claims
from csi.model import Kind
from csi.volumes.reports import CheckReport, Condition, NodeReport, Severity
from tests.unit.cli.conftest import Command
from tests.unit.kube.objects import persistent_volume, snapshot_content
from tests.unit.rpc.fake import BLOCK, NODE, POOL, POOL_REPORT, SNAPSHOT, VOLUME, FakeNode

DOCKER_ORDER = [
    "Pool Name",
    "Pool Blocksize",
    "Base (default volume) Size",
    "Backing Filesystem",
    "Udev Sync Supported",
    "Data file",
    "Metadata file",
    "Data loop file",
    "Metadata loop file",
    "Data Space Used",
    "Data Space Total",
    "Data Space Available",
    "Metadata Space Used",
    "Metadata Space Total",
    "Metadata Space Available",
    "Thin Pool Minimum Free Space",
    "Deferred Removal Enabled",
    "Deferred Deletion Enabled",
    "Deferred Deleted Device Count",
    "Library Version",
]


def with_pool(fake: FakeNode, monkeypatch: pytest.MonkeyPatch, **changes: object) -> None:
    pool = dataclasses.replace(POOL_REPORT, **changes)  # type: ignore[arg-type]
    report = NodeReport(NODE, "0.1.0", "4.47.0", {"thin": "1.22.0", "thin-pool": "1.22.0"}, False, True, (pool,))
    monkeypatch.setattr(fake, "report", lambda: report)


def checked(fake: FakeNode, monkeypatch: pytest.MonkeyPatch, report: CheckReport) -> None:
    monkeypatch.setattr(fake, "check", lambda **_options: report)


class TestInfo:
    def test_has_the_lines_of_docker_info_in_dockers_order(self, command: Command, endpoint: str) -> None:
        said = command("info", "--endpoint", endpoint)
        assert said.status == 0
        names = [line.strip().partition(":")[0] for line in said.out.splitlines()]
        start = names.index("Pool Name")
        assert names[start : start + len(DOCKER_ORDER)] == DOCKER_ORDER

    def test_shows_sizes_for_a_person(self, command: Command, endpoint: str) -> None:
        lines = [line.strip() for line in command("info", "--endpoint", endpoint).out.splitlines()]
        assert "Pool Blocksize: 64KiB" in lines
        assert "Data Space Used: 1MiB" in lines
        assert "Metadata Space Available: 30MiB" in lines
        assert "Mode: loop-lvm: for development, not for production" in lines
        assert "Volumes: 1" in lines
        assert "Virtual Size of Volumes: 5GiB (0.05 of the pool's space)" in lines
        assert "Health: good" in lines

    def test_leaves_the_loop_files_out_of_a_pool_on_disks(
        self, command: Command, endpoint: str, fake: FakeNode, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with_pool(fake, monkeypatch, mode="direct-lvm", data_loop_file="", metadata_loop_file="", backing_filesystem="")
        out = command("info", "--endpoint", endpoint).out
        assert "loop" not in out.replace("/dev/loop", "")
        assert "Backing Filesystem" not in out
        assert " Mode: direct-lvm\n" in out

    def test_names_what_is_wrong_and_what_is_only_worth_knowing(
        self, command: Command, endpoint: str, fake: FakeNode, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        conditions = (
            Condition("PoolFull", "no data block is free", Severity.INACCESSIBLE),
            Condition("LoopLvm", "not for production", Severity.INFO),
        )
        with_pool(fake, monkeypatch, conditions=conditions)
        out = command("info", "--endpoint", endpoint).out
        assert " Health: PoolFull\n" in out
        assert "  PoolFull (inaccessible): no data block is free\n" in out
        assert "  LoopLvm (info): not for production\n" in out

    def test_shows_of_a_pool_that_is_not_open_only_why(
        self, command: Command, endpoint: str, fake: FakeNode, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        reason = Condition("ForeignPool", "it belongs to another node", Severity.INACCESSIBLE)
        with_pool(fake, monkeypatch, pool_id=None, conditions=(reason,))
        out = command("info", "--endpoint", endpoint).out
        assert " Health: not open\n" in out
        assert "ForeignPool (inaccessible): it belongs to another node" in out
        assert "Data Space" not in out

    def test_json_has_every_field_as_a_number_where_it_is_one(self, command: Command, endpoint: str) -> None:
        found = command("info", "--endpoint", endpoint, "--output", "json").json
        assert found["node"] == NODE
        assert found["served"] is True
        assert found["target_versions"] == {"thin": "1.22.0"}
        (pool,) = found["pools"]
        expected = {field.name for field in dataclasses.fields(POOL_REPORT)} | {"data_available", "metadata_available"}
        assert set(pool) == expected
        assert pool["pool_id"] == POOL
        assert pool["data_total"] == 100 << 30
        assert pool["data_available"] == (100 << 30) - (1 << 20)
        assert pool["overprovision_ratio"] == 3.5
        assert pool["devices"] == ["/dev/loop0", "/dev/loop1"]
        assert pool["conditions"] == []


class TestLists:
    def test_volumes_are_aligned_columns(self, command: Command, endpoint: str) -> None:
        said = command("volumes", "--endpoint", endpoint)
        head, first, second = said.out.splitlines()
        assert head.split() == [
            *("HANDLE", "NAME", "POOL", "SIZE", "MAPPED", "EXCLUSIVE", "ORIGIN", "STATE", "FS", "IN", "USE")
        ]
        assert first.split() == [str(VOLUME), "pvc-1", "fast", "1GiB", "0B", "?", "-", "ready", "ext4", "yes"]
        assert second.split()[-2:] == ["block", "yes"]
        assert first.index("ready") == second.index("ready") == head.index("STATE")

    def test_are_not_cut_where_grpc_by_itself_takes_no_more(
        self, command: Command, endpoint: str, fake: FakeNode, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        first, *_ = fake.listing(Kind.VOLUME)
        monkeypatch.setattr(fake, "listing", lambda _kind: [first] * 100_000)
        assert len(command("volumes", "--endpoint", endpoint).out.splitlines()) == 100_001

    def test_snapshots_show_their_origin(self, command: Command, endpoint: str) -> None:
        _, line = command("snapshots", "--endpoint", endpoint).out.splitlines()
        assert line.startswith(str(SNAPSHOT))
        assert str(VOLUME) in line

    def test_json_tells_what_is_not_known_from_zero(self, command: Command, endpoint: str) -> None:
        listed = command("volumes", "--endpoint", endpoint, "--output", "json").json["volumes"]
        assert [volume["handle"] for volume in listed] == [str(VOLUME), str(BLOCK)]
        assert listed[0]["mapped"] == 0
        assert listed[0]["exclusive"] is None
        assert listed[0]["created_ns"] == 1_700_000_000_123_456_789


class TestCheck:
    def test_findings_are_lines_and_status_1(self, command: Command, endpoint: str, fake: FakeNode) -> None:
        said = command("check", "--endpoint", endpoint)
        assert said.status == 1
        assert said.out.splitlines() == [
            "fast: catalog: behind",
            "fast: metadata: ok",
            "1 pool, 3 devices: 1 finding",
        ]
        assert ("check", (False,)) in fake.calls

    def test_nothing_found_is_status_0(
        self, command: Command, endpoint: str, fake: FakeNode, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        checked(fake, monkeypatch, CheckReport(2, 7, (), {"a": "ok", "b": "ok"}))
        said = command("check", "--endpoint", endpoint)
        assert said.status == 0
        assert said.out.splitlines()[-1] == "2 pools, 7 devices: 0 findings"

    def test_metadata_that_needs_a_check_is_status_1(
        self, command: Command, endpoint: str, fake: FakeNode, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        checked(fake, monkeypatch, CheckReport(1, 1, (), {"a": "needs-check"}))
        assert command("check", "--endpoint", endpoint).status == 1

    def test_rebuild_is_passed_on(self, command: Command, endpoint: str, fake: FakeNode) -> None:
        command("check", "--rebuild", "--endpoint", endpoint)
        assert ("check", (True,)) in fake.calls

    def test_what_the_cluster_says_is_passed_on(
        self, command: Command, endpoint: str, fake: FakeNode, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        objects = {"kind": "List", "items": [{"kind": "Pod"}, persistent_volume(), snapshot_content()]}
        file = tmp_path / "objects.json"
        file.write_text(json.dumps(objects))
        command("check", "--rebuild", "--objects", str(file), "--endpoint", endpoint)
        monkeypatch.setattr("sys.stdin", io.StringIO(json.dumps(objects)))
        command("check", "--rebuild", "--objects", "-", "--endpoint", endpoint)
        asked = ("check", (True, *claims([persistent_volume(), snapshot_content()])))
        assert fake.calls.count(asked) == 2

    @pytest.mark.parametrize("text", ["", "[]", '{"kind": "List"}', '{"kind": "PersistentVolume"}'])
    def test_objects_that_cannot_be_read_change_nothing(
        self, command: Command, endpoint: str, fake: FakeNode, tmp_path: Path, text: str
    ) -> None:
        file = tmp_path / "objects.json"
        file.write_text(text)
        said = command("check", "--rebuild", "--objects", str(file), "--endpoint", endpoint)
        assert said.status == 2
        assert "read objects" in said.err
        assert not fake.calls

    def test_objects_without_a_rebuild_are_refused(self, command: Command, endpoint: str) -> None:
        assert command("check", "--objects", "-", "--endpoint", endpoint).status == 2

    def test_json_has_the_same(self, command: Command, endpoint: str) -> None:
        said = command("check", "--output", "json", "--endpoint", endpoint)
        assert said.status == 1
        assert said.json["findings"] == [
            {"pool": "fast", "subject": "catalog", "message": "behind", "handle": str(VOLUME)}
        ]
        assert said.json["thin_check"] == {"fast": "ok"}

    def test_what_could_not_be_checked_is_status_2(self, command: Command, endpoint: str, fake: FakeNode) -> None:
        fake.failure = UnavailableError("read pool", "fast", "it does not answer")
        said = command("check", "--endpoint", endpoint)
        assert said.status == 2
        assert "UNAVAILABLE: read pool fast: it does not answer" in said.err
        assert not said.out


class TestWithoutAnswer:
    @pytest.mark.parametrize(("name", "status"), [("info", 1), ("volumes", 1), ("snapshots", 1), ("check", 2)])
    def test_a_refusal_is_one_line_on_standard_error(
        self, name: str, status: int, command: Command, endpoint: str, fake: FakeNode
    ) -> None:
        fake.failure = UnavailableError("read pool", "fast", "it does not answer")
        said = command(name, "--endpoint", endpoint)
        assert said.status == status
        assert said.err.count("\n") == 1
        assert said.err.startswith("thinpool-csi: ask the node at /")

    @pytest.mark.parametrize(("name", "status"), [("info", 1), ("volumes", 1), ("snapshots", 1), ("check", 2)])
    def test_without_a_node_only_root_may_read_the_idle_pools(
        self, name: str, status: int, command: Command, socket: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(os, "geteuid", lambda: 1000)
        said = command(name, "--endpoint", f"unix://{socket}")
        assert said.status == status
        assert f"no node is running at {socket}: reading the idle pools" in said.err
        assert said.err.splitlines()[-1].endswith("run it as root")

    def test_a_socket_that_nobody_serves_is_no_node(
        self, command: Command, socket: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(os, "geteuid", lambda: 1000)
        with sockets.socket(sockets.AF_UNIX) as left:
            left.bind(str(socket))
        assert "no node is running" in command("info", "--endpoint", f"unix://{socket}").err

    def test_something_else_than_a_socket_is_said(self, command: Command, tmp_path: Path) -> None:
        said = command("info", "--endpoint", f"unix://{tmp_path}/file/csi.sock")
        (tmp_path / "file").touch()
        assert "no node is running" in said.err
        said = command("info", "--endpoint", f"unix://{tmp_path}/file/csi.sock")
        assert said.status == 1
        assert "ENOTDIR" in said.err

    def test_an_endpoint_that_is_no_unix_socket_is_refused(self, command: Command) -> None:
        said = command("info", "--endpoint", "tcp://127.0.0.1:1")
        assert said.status == 1
        assert "write unix:///path/to/csi.sock" in said.err
