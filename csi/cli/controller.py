"""``thinpool-csi controller``: routes the side-cars' requests to the nodes, and leads the cluster's ThinPoolNodes."""

import argparse
import signal
import sys
import threading
from typing import Final

import structlog
from prometheus_client import CollectorRegistry

from csi import __version__, log
from csi.agent.http import HttpServer
from csi.agent.leader import Leader
from csi.agent.metrics import Calls
from csi.agent.threads import Threads
from csi.errors import DriverError
from csi.kube.api import Api
from csi.kube.lease import Election
from csi.kube.resources import THIN_POOL_NODES, THIN_POOLS, config_maps
from csi.kube.watched import Watched
from csi.rpc.endpoint import socket_path
from csi.rpc.fleet import Fleet
from csi.rpc.forward import Channels, Forwarder
from csi.rpc.router_server import router_server
from csi.rpc.trust import CONTROLLER, Own

_LOOK_EVERY: Final = 10.0
_GRACE: Final = 15.0
_PUBLISH_EVERY: Final = 60.0
"""Seconds between two looks whether our certificate stands where the nodes read it."""


def run(options: argparse.Namespace) -> int:
    """Serve until SIGTERM or SIGINT: 0. Return 1, with a line on standard error, if it cannot."""
    log.configure(options.log_format, options.log_level)
    ending = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda _number, _frame: ending.set())
    try:
        service = _Service(options)
        try:
            service.serve(ending)
        finally:
            service.close()
    except DriverError as error:
        print(f"thinpool-csi: {error}", file=sys.stderr)
        return 1
    return 0


class _Service:
    """What ``controller`` puts together."""

    def __init__(self, options: argparse.Namespace) -> None:
        structlog.get_logger().info("starting", version=__version__, pod=options.pod_name)
        self._options = options
        self._api = Api.connect(options.kubeconfig)
        self._own = Own(CONTROLLER)
        self._pools = Watched(self._api, THIN_POOLS, self._wake)
        self._pool_nodes = Watched(self._api, THIN_POOL_NODES, self._wake)
        self._leader: Leader | None = None
        self._threads = Threads()
        self._forwarder = Forwarder(Channels(self._own))
        registry = CollectorRegistry()
        fleet = Fleet(self._pool_nodes.objects)
        self._server = router_server(
            fleet,
            self._forwarder,
            socket_path(options.endpoint),
            self._pool_nodes.synced.is_set,
            Calls(registry).observe,
        )
        self._http = HttpServer(options.metrics, registry, healthy=lambda: "", ready=self._unready)

    def serve(self, ending: threading.Event) -> None:
        """Serve until ``ending`` is set."""
        self._publish()
        self._http.start()
        self._pools.start()
        self._pool_nodes.start()
        self._threads.run("certificates", self._keep_published)
        options = self._options
        Election(self._api, options.namespace, options.lease, options.pod_name, self._lead, self._follow).start()
        self._server.start()
        structlog.get_logger().info("ready", endpoint=options.endpoint)
        while not ending.wait(_LOOK_EVERY):
            pass

    def close(self) -> None:
        """Take everything apart; our certificate goes first."""
        self._threads.stop()
        self._withdraw()
        self._follow()
        self._server.stop(_GRACE)
        self._forwarder.close()
        self._pools.stop()
        self._pool_nodes.stop()
        self._http.stop()
        structlog.get_logger().info("ended")

    def _unready(self) -> str:
        if not self._pool_nodes.synced.is_set():
            return "the cluster has not said yet which nodes there are"
        return "" if self._server.listening() else "not serving"

    # -- leading ------------------------------------------------------------------------------------------------

    def _lead(self) -> None:
        structlog.get_logger().info("leading")
        options = self._options
        leader = Leader(self._api, self._pools, self._pool_nodes, options.namespace, options.pools_config)
        leader.start()
        self._leader = leader

    def _follow(self) -> None:
        leader, self._leader = self._leader, None
        if leader is not None:
            structlog.get_logger().info("leading no more")
            leader.stop()

    def _wake(self) -> None:
        leader = self._leader
        if leader is not None:
            leader.wake()

    # -- our certificate ----------------------------------------------------------------------------------------

    def _publish(self) -> None:
        """Write our certificates where the nodes read them. Raise DriverError."""
        self._write(self._own.published())

    def _keep_published(self) -> None:
        while not self._threads.ending.wait(_PUBLISH_EVERY):
            self._own.renew()
            try:
                self._publish()
            except DriverError as error:
                structlog.get_logger().warning("certificate not published", why=str(error))

    def _withdraw(self) -> None:
        try:
            self._write(None)
        except DriverError as error:
            structlog.get_logger().warning("certificate not withdrawn", why=str(error))

    def _write(self, pem: str | None) -> None:
        body = {"data": {self._options.pod_name: pem}}
        self._api.patch(config_maps(self._options.namespace), self._options.controllers_config, body)
