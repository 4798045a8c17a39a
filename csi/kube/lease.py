"""Leader election by a lease of the cluster: of all controllers, one leads."""

import threading
from collections.abc import Callable
from functools import partial
from typing import Any, Final, cast

import structlog
from kubernetes import client
from kubernetes.client.exceptions import ApiException
from kubernetes.config.config_exception import ConfigException
from kubernetes.leaderelection import electionconfig, leaderelection
from kubernetes.leaderelection.resourcelock.leaselock import LeaseLock
from urllib3.exceptions import HTTPError

from csi.kube.api import Api

_DURATION: Final = 15
_RENEW: Final = 10
_RETRY: Final = 2
"""Seconds, as the side-cars have them."""
_TIMEOUT: Final = (2.0, 3.0)
"""Seconds to connect and to answer: several tries fit in before the lease ends."""

_UNREACHED: Final = (HTTPError, OSError, ConfigException)

log = structlog.get_logger()


class _Timed:
    """The API of leases with a deadline for each call."""

    def __init__(self, api: client.CoordinationV1Api) -> None:
        self._api = api

    def __getattr__(self, name: str) -> Callable[..., Any]:
        return partial(getattr(self._api, name), _request_timeout=_TIMEOUT)


class _StoppedError(Exception):
    """We stand no more."""


class _Lock(LeaseLock):
    """A lease; a cluster that cannot be reached is a try that failed, which the library's own takes for no case."""

    stopped: threading.Event

    def get(self, name: str, namespace: str) -> tuple[bool, object]:
        """Return whether there is a record, and that or the error. Every try of the library begins here."""
        if self.stopped.is_set():
            raise _StoppedError
        try:
            found: tuple[bool, object] = super().get(name, namespace)  # type: ignore[no-untyped-call]
        except _UNREACHED as error:
            return False, ApiException(reason=str(error))
        return found

    def create(self, name: str, namespace: str, election_record: object) -> bool:
        """Make the lease; tell whether it was done."""
        return self._done(super().create, name, namespace, election_record)

    def update(self, name: str, namespace: str, updated_record: object) -> bool:
        """Renew or take it; tell whether it was done."""
        return self._done(super().update, name, namespace, updated_record)

    @staticmethod
    def _done(call: Callable[..., bool], *words: object) -> bool:
        try:
            return call(*words)
        except _UNREACHED as error:
            log.warning("lease not written", why=str(error))
            return False


class _Terms(leaderelection.LeaderElection):
    """An election whose callbacks never overlap: the library begins in a thread of its own."""

    def run(self) -> None:
        """Wait for the lease, lead until it is lost."""
        if self.acquire():  # type: ignore[no-untyped-call]
            self.election_config.onstarted_leading()
            try:
                self.renew_loop()  # type: ignore[no-untyped-call]
            finally:
                self.election_config.onstopped_leading()


class Election:
    """Stands for election until it is stopped, in a thread of its own."""

    def __init__(
        self, api: Api, namespace: str, name: str, identity: str, begin: Callable[[], None], end: Callable[[], None]
    ) -> None:
        """``begin`` and ``end`` are called when we begin and cease to lead; both return soon."""
        lock = _Lock(name, namespace, identity)  # type: ignore[no-untyped-call]
        connection = client.ApiClient(api.settings)
        connection.rest_client = api.rest
        lock.api_instance = cast("client.CoordinationV1Api", _Timed(client.CoordinationV1Api(connection)))
        self._settings = electionconfig.Config(  # type: ignore[no-untyped-call]
            lock=lock,
            lease_duration=_DURATION,
            renew_deadline=_RENEW,
            retry_period=_RETRY,
            onstarted_leading=begin,
            onstopped_leading=end,
        )
        self._stopped = lock.stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="election", daemon=True)

    def start(self) -> None:
        """Begin to stand."""
        self._thread.start()

    def stop(self) -> None:
        """Stand no more, and cease to lead; wait for as long as the try that is under way may take."""
        self._stopped.set()
        if self._thread.is_alive():
            self._thread.join(_RETRY + sum(_TIMEOUT))

    def _run(self) -> None:
        while not self._stopped.is_set():
            try:
                _Terms(self._settings).run()  # type: ignore[no-untyped-call]
            except _StoppedError:
                return
            except Exception:
                # A fault of ours or of the library's; without any leader a cluster would be worse off.
                log.exception("election broken off by a fault, goes on")
            self._stopped.wait(_RETRY)
