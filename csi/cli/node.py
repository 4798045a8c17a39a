"""``thinpool-csi node``: opens the pools, looks after them, and serves them over CSI until it is told to end."""

import argparse
import signal
import sys
import threading
import time
from typing import TYPE_CHECKING, Final

import structlog

from csi import __version__, log, malloc
from csi.agent.agent import Agent
from csi.cli.place import find_place, wanted_pools
from csi.dm.freezer import Freezer
from csi.errors import DriverError, InvalidRequestError, PoolBusyError
from csi.rpc.endpoint import socket_path
from csi.volumes.node import Node

if TYPE_CHECKING:
    from collections.abc import Callable

    from csi.cli.member import Member
    from csi.rpc.interceptor import Observe
    from csi.rpc.server import Server

_LOOK_EVERY: Final = 10.0
_PATIENCE: Final = 10.0
"""Seconds to wait for a process that has a pool: one that only reads it, or a node that is about to end."""
_PAUSE: Final = 0.5
_GRACE: Final = 15.0
"""Seconds that calls under way get at the end. Some take longer (mkfs); they are journalled, and tried again."""


def run(options: argparse.Namespace) -> int:
    """Serve until SIGTERM or SIGINT: 0. Return 1, with a line on standard error, if it cannot."""
    log.configure(options.log_format, options.log_level)
    malloc.few_arenas()
    service = _Service(options)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda received, _frame: service.end(received))
    status = 1
    try:
        service.serve(service.open())
        status = 0
    except _EndedError:
        status = 0
    except DriverError as error:
        print(f"thinpool-csi: {error}", file=sys.stderr)
    stuck = service.close()
    if stuck:
        structlog.get_logger().warning("ended with calls under way", calls=stuck)
    return status


class _EndedError(Exception):
    """SIGTERM or SIGINT came before the node served."""


class _Service:
    """What ``node`` puts together, and takes apart in reverse."""

    def __init__(self, options: argparse.Namespace) -> None:
        self._options = options
        self._ending = threading.Event()
        self._starting = True
        self._servers: list[Server] = []
        self._member: Member | None = None
        self._observe: Observe | None = None
        self._closing: list[Callable[[], None]] = []

    def end(self, number: int) -> None:
        """Take note of a signal; while the node starts, break off (what was begun is journalled)."""
        self._ending.set()
        if self._starting:
            self._starting = False
            structlog.get_logger().info("told to end while starting", signal=signal.Signals(number).name)
            raise _EndedError

    def open(self) -> Node:
        """Open the pools. Raise PoolBusyError, UnavailableError, InvalidRequestError."""
        options = self._options
        structlog.get_logger().info("starting", version=__version__, node=options.node_name)
        if options.cluster:
            _check_cluster(options)
        specs = () if options.cluster else wanted_pools(options)
        if options.pools is None and not options.cluster:
            structlog.get_logger().warning(
                "no --pools given: serving the embedded loop-lvm pool, for development, not for production",
                pool=specs[0].name,
                directory=str(options.state_dir),
            )
        place = find_place(options, in_cluster=options.cluster)
        self._closing.append(place.freezer.close)
        # A bad endpoint is better known before a pool is made.
        socket_path(options.endpoint)
        node = Node(place, specs)
        self._closing.append(node.close)
        agent = Agent(node)
        self._closing.append(agent.stop)
        if options.cluster:
            self._join(node, agent)
        else:
            _open(node, agent)
            agent.start()
        if options.metrics:
            self._watched(node, place.freezer)
        return node

    def _join(self, node: Node, agent: Agent) -> None:
        # A node without a cluster loads none of this.
        from csi.cli.member import Member  # noqa: PLC0415

        self._member = Member(self._options, node, agent)
        self._closing.append(self._member.stop)
        self._member.start()

    def _watched(self, node: Node, freezer: Freezer) -> None:
        from prometheus_client import CollectorRegistry  # noqa: PLC0415 - as above

        from csi.agent.http import HttpServer  # noqa: PLC0415
        from csi.agent.metrics import Calls, PoolCollector  # noqa: PLC0415

        registry = CollectorRegistry()
        registry.register(PoolCollector(node))
        self._observe = Calls(registry).observe
        server = HttpServer(
            self._options.metrics,
            registry,
            healthy=lambda: "" if freezer.guarded() else "the guard of freezes is gone",
            ready=self._unready,
        )
        self._closing.append(server.stop)
        server.start()

    def _unready(self) -> str:
        """Say why the node does not serve; a pool that is closed is the pool's own matter."""
        if self._member is not None and not self._member.synced():
            return "the cluster has not said yet what it wants"
        return "" if self._servers and all(server.listening() for server in self._servers) else "not serving"

    def serve(self, node: Node) -> None:
        """Serve CSI, register, and wait for the end; make a socket anew that somebody removed."""
        self._start(node)
        self._starting = False
        while not self._ending.wait(_LOOK_EVERY):
            if not all(server.listening() for server in self._servers):
                structlog.get_logger().error("a socket is gone, serving anew", endpoint=self._options.endpoint)
                self._stop()
                self._start(node)

    def close(self) -> int:
        """Take everything apart, within bounds; return how many calls are still under way."""
        self._starting = False
        stuck = self._stop()
        while self._closing and not stuck:
            self._closing.pop()()
        structlog.get_logger().info("ended")
        return stuck

    def _start(self, node: Node) -> None:
        from csi.rpc.interceptor import unobserved  # noqa: PLC0415 - as above
        from csi.rpc.registration import registration_server  # noqa: PLC0415 - as above
        from csi.rpc.server import node_server  # noqa: PLC0415

        options = self._options
        observe = self._observe or unobserved
        server: Server = node_server(node, options.endpoint, observe)
        self._servers.append(server)
        server.start()
        if self._member is not None:
            server = self._member.server(observe)
            self._servers.append(server)
            server.start()
        if options.registration_dir is not None:
            # The kubelet calls as soon as it sees this socket, so it comes last.
            server, _ = registration_server(str(options.registration_dir), socket_path(options.endpoint))
            self._servers.append(server)
            server.start()
        structlog.get_logger().info("ready", endpoint=options.endpoint, pools_open=len(node.pools))

    def _stop(self) -> int:
        servers, self._servers = self._servers, []
        return sum(server.stop(_GRACE) for server in reversed(servers))


def _check_cluster(options: argparse.Namespace) -> None:
    if options.pools is not None:
        raise InvalidRequestError("use", "--cluster", "--pools excludes it: the pools are those of the cluster")
    missing = [each for each in ("listen", "namespace", "controllers_config") if not getattr(options, each)]
    if missing:
        wanted = ", ".join(f"--{each.replace('_', '-')}" for each in missing)
        raise InvalidRequestError("use", "--cluster", f"it needs {wanted}")


def _open(node: Node, agent: Agent) -> None:
    deadline = time.monotonic() + _PATIENCE
    while True:
        try:
            node.open(agent.watch)
        except PoolBusyError as error:
            if time.monotonic() > deadline:
                raise
            structlog.get_logger().warning("waiting for a pool", why=str(error))
            time.sleep(_PAUSE)
        else:
            return
