"""A node as a member of a cluster: what ``thinpool-csi node --cluster`` has beside the node itself."""

import argparse
from typing import Final

from csi.agent.agent import Agent
from csi.agent.cluster import Cluster, Contact
from csi.agent.http import bracketed
from csi.agent.memory import Memory
from csi.agent.threads import Threads
from csi.kube.api import Api
from csi.kube.resources import config_maps
from csi.kube.watched import Watched
from csi.rpc.interceptor import Observe
from csi.rpc.server import TcpServer, controller_server
from csi.rpc.trust import NODE, Own
from csi.volumes.node import Node

_RENEW_EVERY: Final = 600.0


class Member:
    """The cluster's wishes, the controllers that are trusted, and the certificates of the node."""

    def __init__(self, options: argparse.Namespace, node: Node, agent: Agent) -> None:
        """Connect to the cluster. Raise UnavailableError."""
        api = Api.connect(options.kubeconfig)
        self._node = node
        self._own = Own(NODE)
        self._address = bracketed(options.listen)
        memory = Memory(options.state_dir / "wanted.json")
        self._cluster = Cluster(node, agent, api, Contact(self._address, self._own.published), memory)
        self._controllers = Watched(
            api,
            config_maps(options.namespace),
            field_selector=f"metadata.name={options.controllers_config}",
        )
        self._threads = Threads()

    def start(self) -> None:
        """Begin to follow the cluster."""
        self._controllers.start()
        self._cluster.start()
        self._threads.run("certificates", self._renew)

    def stop(self) -> None:
        """End; pools and volumes stay as they are."""
        self._threads.stop()
        self._cluster.stop()
        self._controllers.stop()

    def server(self, observe: Observe) -> TcpServer:
        """Return the server for the controllers, not yet started."""
        return controller_server(self._node, self._address, self._own, self._trusted, observe)

    def synced(self) -> bool:
        """Tell whether the cluster has said what it wants."""
        return self._cluster.synced()

    def _trusted(self) -> str:
        """Return the certificates of all controllers."""
        found = [each.get("data") or {} for each in self._controllers.objects()]
        return "".join(pem for data in found for _, pem in sorted(data.items()))

    def _renew(self) -> None:
        while not self._threads.ending.wait(_RENEW_EVERY):
            self._own.renew()
