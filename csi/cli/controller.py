"""``thinpool-csi controller``: routes the side-cars' requests to the nodes, and leads the cluster's ThinPoolNodes."""

import argparse
import signal
import sys
import threading
from datetime import timedelta
from typing import Final

import structlog
from prometheus_client import CollectorRegistry

from csi import __version__, log
from csi.agent.http import HttpServer
from csi.agent.leader import Leader
from csi.agent.metrics import Calls, orphans_gauge
from csi.agent.orphans import Orphans
from csi.agent.published import Published
from csi.agent.threads import Threads
from csi.errors import DriverError
from csi.kube.api import Api
from csi.kube.lease import Election
from csi.kube.resources import THIN_POOL_NODES, THIN_POOLS
from csi.kube.watched import Watched
from csi.rpc.endpoint import socket_path
from csi.rpc.fleet import Fleet
from csi.rpc.forward import Channels, Forwarder
from csi.rpc.inventory import Inventory
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
        self._published = Published(self._api, options.namespace, options.controllers_config, options.pod_name)
        self._pools = Watched(self._api, THIN_POOLS, self._wake)
        self._pool_nodes = Watched(self._api, THIN_POOL_NODES, self._wake)
        self._leader: Leader | None = None
        self._threads = Threads()
        self._forwarder = Forwarder(Channels(self._own))
        registry = CollectorRegistry()
        fleet = Fleet(self._pool_nodes.objects)
        grace = timedelta(seconds=options.orphan_after)
        self._orphans = Orphans(self._api, Inventory(fleet, self._forwarder).of, orphans_gauge(registry), grace)
        self._server = router_server(
            fleet,
            self._forwarder,
            socket_path(options.endpoint),
            self._pool_nodes.synced.is_set,
            Calls(registry).observe,
        )
        self._election = Election(
            self._api, options.namespace, options.lease, options.pod_name, self._lead, self._follow
        )
        self._http = HttpServer(options.metrics, registry, healthy=lambda: "", ready=self._unready)

    def serve(self, ending: threading.Event) -> None:
        """Serve until ``ending`` is set."""
        self._published.write(self._own.published())
        self._http.start()
        self._pools.start()
        self._pool_nodes.start()
        self._threads.run("certificates", self._keep_published)
        self._election.start()
        self._server.start()
        structlog.get_logger().info("ready", endpoint=self._options.endpoint)
        while not ending.wait(_LOOK_EVERY):
            pass

    def close(self) -> None:
        """Take everything apart; our certificate goes when the last call is answered."""
        self._threads.stop()
        self._server.stop(_GRACE)
        self._election.stop()
        self._withdraw()
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
        leader = Leader(
            self._api, self._pools, self._pool_nodes, options.namespace, options.pools_config, self._orphans
        )
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

    def _keep_published(self) -> None:
        while not self._threads.ending.wait(_PUBLISH_EVERY):
            self._own.renew()
            try:
                self._published.write(self._own.published())
                if self._leader is not None:
                    self._published.forget_gone()
            except DriverError as error:
                structlog.get_logger().warning("certificate not published", why=str(error))

    def _withdraw(self) -> None:
        try:
            self._published.withdraw()
        except DriverError as error:
            structlog.get_logger().warning("certificate not withdrawn", why=str(error))
