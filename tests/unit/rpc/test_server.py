"""A server on a unix socket: who may open it, how many it serves, how it ends."""

import os
import socket
import stat
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import grpc
import pytest

from csi.errors import InvalidRequestError, KernelError, StateError
from csi.pb.csi.v1 import csi_pb2 as pb
from csi.rpc.endpoint import socket_path
from csi.rpc.server import WORKERS, SocketServer, add_services, node_server
from tests.unit.rpc.conftest import Stubs
from tests.unit.rpc.fake import VOLUME, FakeNode

if TYPE_CHECKING:
    from csi.volumes.node import Node

DELETE = pb.DeleteVolumeRequest(volume_id=str(VOLUME))


@pytest.fixture
def node() -> FakeNode:
    return FakeNode()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "plugin" / "csi.sock"


@pytest.fixture
def server(node: FakeNode, path: Path) -> Iterator[SocketServer]:
    server = node_server(cast("Node", node), f"unix://{path}")
    server.start()
    yield server
    server.stop(0)


@pytest.fixture
def client(server: SocketServer) -> Iterator[Stubs]:
    with grpc.insecure_channel(f"unix:{server.path}") as channel:
        yield Stubs.on(channel)


class Stall:
    """Holds every call to the node until it is let go."""

    def __init__(self, node: FakeNode, calls: int) -> None:
        self.inside = threading.Semaphore(0)
        self.go = threading.Event()
        self.calls = calls
        node.during = self.wait

    def wait(self) -> None:
        self.inside.release()
        assert self.go.wait(30)

    def all_inside(self) -> None:
        for _ in range(self.calls):
            assert self.inside.acquire(timeout=30)


def test_only_root_may_open_the_socket_from_its_first_moment(server: SocketServer, path: Path) -> None:
    mode = path.stat().st_mode
    assert stat.S_ISSOCK(mode)
    assert stat.S_IMODE(mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o750
    assert server.listening()


def test_the_umask_is_left_as_it_was(server: SocketServer) -> None:
    del server
    before = os.umask(0o22)
    os.umask(before)
    assert before != 0o177


def test_a_socket_that_nobody_listens_on_is_replaced(node: FakeNode, path: Path) -> None:
    path.parent.mkdir()
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    server = node_server(cast("Node", node), str(path))
    server.start()
    with grpc.insecure_channel(f"unix:{path}") as channel:
        assert Stubs.on(channel).identity.Probe(pb.ProbeRequest()).ready.value
    server.stop(0)


def test_a_socket_that_somebody_serves_is_left_alone(server: SocketServer, node: FakeNode, client: Stubs) -> None:
    second = node_server(cast("Node", node), server.path)
    with pytest.raises(StateError, match="another process serves there"):
        second.start()
    second.stop(0)
    assert server.listening()
    assert client.identity.Probe(pb.ProbeRequest()).ready.value


def test_what_is_no_socket_is_left_alone(node: FakeNode, path: Path) -> None:
    path.parent.mkdir()
    path.write_text("precious")
    server = node_server(cast("Node", node), str(path))
    with pytest.raises(StateError, match="something else is there"):
        server.start()
    server.stop(0)
    assert path.read_text() == "precious"


def test_a_directory_that_cannot_be_made_is_an_error(node: FakeNode, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    server = node_server(cast("Node", node), str(tmp_path / "file" / "csi.sock"))
    with pytest.raises(KernelError):
        server.start()
    server.stop(0)


def test_a_socket_that_was_removed_or_replaced_is_noticed(server: SocketServer, path: Path) -> None:
    path.unlink()
    assert not server.listening()
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(path))
    assert not server.listening()
    server.stop(0)
    assert path.exists()


@pytest.mark.parametrize("endpoint", ["unix:///run/x.sock", "unix:/run/x.sock", "/run/x.sock"])
def test_an_endpoint_is_a_path(endpoint: str) -> None:
    assert socket_path(endpoint) == "/run/x.sock"


@pytest.mark.parametrize(
    "endpoint",
    ["", "unix://", "unix://x.sock", "tcp://0.0.0.0:1", "x", "/", "/run/", "/a/../b", "/a\0", "/" + "x" * 107],
)
def test_what_is_no_path_of_a_socket_is_refused(endpoint: str) -> None:
    with pytest.raises(InvalidRequestError):
        socket_path(endpoint)


def test_stopping_waits_for_the_calls_under_way_and_takes_no_more(
    server: SocketServer, node: FakeNode, client: Stubs, path: Path
) -> None:
    stall = Stall(node, 1)
    with ThreadPoolExecutor(2) as threads:
        running = threads.submit(client.controller.DeleteVolume, DELETE)
        stall.all_inside()
        assert server.running == 1
        stopping = threads.submit(server.stop, 30)
        while path.exists():
            assert not running.done()
        stall.go.set()
        assert running.result(30) == pb.DeleteVolumeResponse()
        assert stopping.result(30) == 0
    with pytest.raises(grpc.RpcError):
        client.identity.Probe(pb.ProbeRequest())


def test_a_call_that_does_not_end_is_given_up_and_counted(server: SocketServer, node: FakeNode, client: Stubs) -> None:
    stall = Stall(node, 1)
    with ThreadPoolExecutor(1) as threads:
        running = threads.submit(client.controller.DeleteVolume, DELETE)
        stall.all_inside()
        assert server.stop(0.1) == 1
        error = cast("Any", running.exception(30))
        assert error.code().name in ("CANCELLED", "UNAVAILABLE")
        stall.go.set()


def test_a_driver_whose_every_thread_waits_for_a_disk_still_says_that_it_is_alive(
    node: FakeNode, client: Stubs
) -> None:
    stall = Stall(node, WORKERS)
    with ThreadPoolExecutor(WORKERS) as threads:
        running = [threads.submit(client.controller.DeleteVolume, DELETE) for _ in range(WORKERS)]
        stall.all_inside()
        assert client.identity.Probe(pb.ProbeRequest(), timeout=10).ready.value
        assert client.node.NodeGetInfo(pb.NodeGetInfoRequest(), timeout=10).node_id
        stall.go.set()
        for each in running:
            each.result(30)


def test_calls_beyond_the_bound_are_refused_those_within_wait(node: FakeNode, path: Path) -> None:
    path.parent.mkdir()
    server = SocketServer(str(path), workers=2, calls=3)
    add_services(cast("Node", node), server.grpc_server)
    server.start()
    stall = Stall(node, 2)
    with grpc.insecure_channel(f"unix:{path}") as channel, ThreadPoolExecutor(4) as threads:
        client = Stubs.on(channel)
        running = [threads.submit(client.controller.DeleteVolume, DELETE) for _ in range(2)]
        stall.all_inside()
        # One more may wait for a thread; which of these is refused, is gRPC's choice.
        late = [threads.submit(client.controller.DeleteVolume, DELETE, 20) for _ in range(2)]
        refused = next(each for each in _finished(late))
        assert cast("Any", refused.exception()).code().name == "RESOURCE_EXHAUSTED"
        stall.go.set()
        assert [each.result(30) for each in running] == [pb.DeleteVolumeResponse()] * 2
        assert [each.result(30) for each in late if each is not refused] == [pb.DeleteVolumeResponse()]
    server.stop(0)


def _finished(calls: list[Any]) -> Iterator[Any]:
    from concurrent.futures import as_completed  # noqa: PLC0415

    yield from as_completed(calls, timeout=30)


def test_work_whose_caller_has_gone_before_it_began_is_not_done(node: FakeNode, path: Path) -> None:
    path.parent.mkdir()
    server = SocketServer(str(path), workers=1)
    add_services(cast("Node", node), server.grpc_server)
    server.start()
    stall = Stall(node, 1)
    with grpc.insecure_channel(f"unix:{path}") as channel, ThreadPoolExecutor(1) as threads:
        client = Stubs.on(channel)
        running = threads.submit(client.controller.DeleteVolume, DELETE)
        stall.all_inside()
        waiting = client.controller.DeleteSnapshot.future(pb.DeleteSnapshotRequest(snapshot_id=str(VOLUME)))
        waiting.cancel()
        # Through the quick threads: what the server has seen after this, it saw the cancellation before.
        client.identity.Probe(pb.ProbeRequest())
        stall.go.set()
        running.result(30)
        client.controller.ListVolumes(pb.ListVolumesRequest())
    server.stop(0)
    assert "delete_snapshot" not in [name for name, _ in node.calls]
