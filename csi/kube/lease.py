"""Leader election by a lease of the cluster: of all controllers, one leads."""

import threading
from collections.abc import Callable
from typing import Final

from kubernetes import client
from kubernetes.leaderelection import electionconfig, leaderelection
from kubernetes.leaderelection.resourcelock.leaselock import LeaseLock

from csi.kube.api import Api

_DURATION: Final = 15
_RENEW: Final = 10
_RETRY: Final = 2
"""Seconds, as the side-cars have them."""


class Election:
    """Stands for election for ever, in a thread that ends with the process."""

    def __init__(
        self, api: Api, namespace: str, name: str, identity: str, begin: Callable[[], None], end: Callable[[], None]
    ) -> None:
        """``begin`` and ``end`` are called when we begin and cease to lead; both return soon."""
        lock = LeaseLock(name, namespace, identity)  # type: ignore[no-untyped-call]
        lock.api_instance = client.CoordinationV1Api(api.client)
        self._settings = electionconfig.Config(  # type: ignore[no-untyped-call]
            lock=lock,
            lease_duration=_DURATION,
            renew_deadline=_RENEW,
            retry_period=_RETRY,
            onstarted_leading=begin,
            onstopped_leading=end,
        )
        self._thread = threading.Thread(target=self._run, name="election", daemon=True)

    def start(self) -> None:
        """Begin to stand."""
        self._thread.start()

    def _run(self) -> None:
        while True:
            leaderelection.LeaderElection(self._settings).run()  # type: ignore[no-untyped-call]
