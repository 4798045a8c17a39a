"""gRPC servers: on unix sockets for this machine, on TCP for the controller."""

import errno
import os
import secrets
import socket
import stat
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Final

import grpc
import structlog

from csi.errors import KernelError, StateError
from csi.pb.csi.v1 import csi_pb2_grpc
from csi.pb.thinpool.v1 import admin_pb2_grpc
from csi.rpc.admin import Admin
from csi.rpc.controller import Controller
from csi.rpc.endpoint import socket_path
from csi.rpc.group import GroupController
from csi.rpc.identity import Identity
from csi.rpc.interceptor import Admits, Observe, Requests, everybody, unobserved
from csi.rpc.node import NodeService
from csi.rpc.trust import Own, admitted, node_credentials

if TYPE_CHECKING:
    from csi.volumes.node import Node

WORKERS: Final = 64
"""Threads for calls. Making a file system takes one for minutes, and a frozen disk takes one until it thaws."""
QUICK_WORKERS: Final = 4
CALLS: Final = 256
"""Calls at once, worked on or waiting for a thread; the next is RESOURCE_EXHAUSTED. The side-cars' bursts of a
hundred each fit in."""
MESSAGE: Final = 4 << 20
"""gRPC's own limit for a message that is received; 4 MiB."""

_CONNECT_TIMEOUT: Final = 1.0
OPTIONS: Final = (
    ("grpc.max_receive_message_length", MESSAGE),
    ("grpc.max_concurrent_streams", CALLS),
    # The side-cars' clients ping an idle connection; that is no abuse, and a client that is gone is noticed.
    ("grpc.keepalive_time_ms", 60_000),
    ("grpc.keepalive_timeout_ms", 20_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.min_ping_interval_without_data_ms", 5_000),
)


class Server:
    """A gRPC server, whose calls all go through one interceptor (csi/rpc/interceptor.py).

    Services are added to ``grpc_server`` before it is started.
    """

    def __init__(self, place: str, *, workers: int, calls: int, observe: Observe, admits: Admits = everybody) -> None:
        self.place = place
        self._quick = ThreadPoolExecutor(QUICK_WORKERS, "rpc-quick")
        self._threads = ThreadPoolExecutor(workers, "rpc")
        self._requests = Requests(self._quick, observe, admits)
        self.grpc_server = grpc.server(
            self._threads, interceptors=[self._requests], options=OPTIONS, maximum_concurrent_rpcs=calls
        )

    def start(self) -> None:
        """Begin to serve."""
        self.grpc_server.start()
        structlog.get_logger().info("serving", place=self.place)

    def listening(self) -> bool:
        """Tell whether clients can still find it."""
        return True

    @property
    def running(self) -> int:
        """How many calls are being worked on."""
        return self._requests.running

    def stop(self, grace: float) -> int:
        """Take no more calls and give those under way ``grace`` seconds.

        Return how many are still being worked on: their callers were told CANCELLED, but a thread that waits for a
        disk cannot be stopped, and keeps the interpreter from ending by itself.
        """
        stopped = self.grpc_server.stop(grace)
        stopped.wait(grace + 1)
        self._threads.shutdown(wait=False, cancel_futures=True)
        self._quick.shutdown(wait=False, cancel_futures=True)
        left = self.running
        structlog.get_logger().info("stopped serving", place=self.place, calls_left=left)
        return left


class TcpServer(Server):
    """A server on one TCP address, for those whose certificates ``credentials`` accept and whom it still ``admits``."""

    def __init__(
        self,
        address: str,
        credentials: grpc.ServerCredentials,
        *,
        workers: int = WORKERS,
        calls: int = CALLS,
        observe: Observe = unobserved,
        admits: Admits = everybody,
    ) -> None:
        super().__init__(address, workers=workers, calls=calls, observe=observe, admits=admits)
        self._credentials = credentials

    def start(self) -> None:
        """Bind the address and begin to serve. Raise KernelError if it cannot be bound."""
        try:
            self.grpc_server.add_secure_port(self.place, self._credentials)
        except RuntimeError as error:  # grpc gives no errno
            raise KernelError("listen on", self.place, "gRPC cannot bind it", way_out="see its own line") from error
        super().start()


class SocketServer(Server):
    """A server on one unix socket that only root may open."""

    def __init__(self, path: str, *, workers: int = WORKERS, calls: int = CALLS, observe: Observe = unobserved) -> None:
        super().__init__(path, workers=workers, calls=calls, observe=observe)
        self._inode: tuple[int, int] | None = None

    @property
    def path(self) -> str:
        """The socket's path."""
        return self.place

    def start(self) -> None:
        """Make the socket and begin to serve.

        A socket that nobody listens on is replaced. Raise StateError if somebody does, or if the path is something
        else; KernelError if it cannot be made.
        """
        _refuse_taken(self.path)
        directory = os.path.dirname(self.path)
        # Made under another name and then moved in: at its end gRPC removes the name that it bound, whoever holds it
        # by then. The kubelet's watcher passes over names with a leading dot.
        made = os.path.join(directory, f".{secrets.token_hex(3)}")
        try:
            os.makedirs(directory, mode=0o750, exist_ok=True)
            # Set for the moment of the bind alone, for the whole process: a file that another thread makes in it is
            # closed to others as well, which the driver, as root, does not notice.
            before = os.umask(0o177)
            try:
                self.grpc_server.add_insecure_port(f"unix:{made}")
            finally:
                os.umask(before)
            os.rename(made, self.path)
            found = os.lstat(self.path)
        except OSError as error:
            raise KernelError("make socket", self.path, error.strerror or "failed", errno=error.errno or 0) from error
        except RuntimeError as error:  # grpc gives no errno
            raise KernelError("make socket", self.path, "gRPC cannot bind it", way_out="see its own line") from error
        self._inode = (found.st_dev, found.st_ino)
        super().start()

    def listening(self) -> bool:
        """Tell whether the path still leads here; somebody may have removed or replaced the socket."""
        try:
            found = os.lstat(self.path)
        except OSError:
            return False
        return (found.st_dev, found.st_ino) == self._inode

    def stop(self, grace: float) -> int:
        """Remove the socket and stop as every server does."""
        if self.listening():
            # Before the calls are drained: no new client may find a server that refuses it.
            os.unlink(self.path)
        return super().stop(grace)


def add_services(node: "Node", server: grpc.Server) -> None:
    """Add every service of a node to ``server``."""
    add_controller_services(node, server)
    csi_pb2_grpc.add_NodeServicer_to_server(NodeService(node), server)
    admin_pb2_grpc.add_AdminServicer_to_server(Admin(node), server)


def add_controller_services(node: "Node", server: grpc.Server) -> None:
    """Add to ``server`` what a controller may ask of a node."""
    csi_pb2_grpc.add_IdentityServicer_to_server(Identity(node), server)
    csi_pb2_grpc.add_ControllerServicer_to_server(Controller(node), server)
    csi_pb2_grpc.add_GroupControllerServicer_to_server(GroupController(node), server)


def node_server(node: "Node", endpoint: str, observe: Observe = unobserved) -> SocketServer:
    """Return the server of a node, not yet started. Raise InvalidRequestError for a bad endpoint."""
    server = SocketServer(socket_path(endpoint), observe=observe)
    add_services(node, server.grpc_server)
    return server


def controller_server(
    node: "Node", address: str, own: Own, controllers: Callable[[], str], observe: Observe = unobserved
) -> TcpServer:
    """Return the server of a node for the ``controllers`` of its cluster (their PEM), not yet started."""
    credentials = node_credentials(own, controllers)
    server = TcpServer(address, credentials, observe=observe, admits=lambda context: admitted(context, controllers()))
    add_controller_services(node, server.grpc_server)
    return server


def _refuse_taken(path: str) -> None:
    """Raise StateError if somebody listens on ``path`` or if it is no socket; a dead socket may be replaced."""
    try:
        found = os.lstat(path)
    except OSError:
        return  # Nothing is there, or nothing can be: the bind will say.
    if not stat.S_ISSOCK(found.st_mode):
        raise StateError("make socket", path, "something else is there", way_out="move it away")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(_CONNECT_TIMEOUT)
        result = probe.connect_ex(path)
    if result not in (errno.ECONNREFUSED, errno.ENOENT):
        raise StateError("make socket", path, "another process serves there", way_out="stop it first", errno=result)
