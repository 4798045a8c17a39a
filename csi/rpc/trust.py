"""Trust between the controllers and the nodes of a cluster: certificates that each side makes for itself.

A side makes a key and a certificate when it starts, keeps the key in memory, and publishes the certificate where only
its own account can write. The other side accepts exactly what is published there, and nothing that is signed with it:
none of the certificates may sign others. A certificate is made anew long before it ends, published first and used only
when the other side has had time to see it; meanwhile both are accepted.
"""

import json
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final, cast

import grpc
import structlog

from csi import process
from csi.errors import DriverError

NODE: Final = "thinpool-csi-node"
CONTROLLER: Final = "thinpool-csi-controller"

_LIFE: Final = timedelta(days=30)
_RENEW: Final = timedelta(days=15)
"""The age at which the next one is made."""
_SETTLE: Final = timedelta(hours=1)
"""How long one is published before it is used, and after it was used last."""
_SKEW: Final = timedelta(hours=1)
"""By how much the other side's clock may be behind."""

_USES: Final = {NODE: "server", CONTROLLER: "client"}
_PROGRAM: Final = os.path.join(os.path.dirname(__file__), "certificate.py")
_DEADLINE: Final = 60.0

log = structlog.get_logger()


@dataclass(frozen=True)
class Certificate:
    """A certificate and its key, PEM."""

    made: datetime
    key: bytes
    pem: bytes


def make(name: str, now: datetime) -> Certificate:
    """Let a key and a certificate be made for ``name``, NODE or CONTROLLER (see certificate.py). Raise CommandError."""
    begin, end = now - _SKEW, now + _LIFE
    argv = [sys.executable, "-IB", _PROGRAM, name, _USES[name], begin.isoformat(), end.isoformat()]
    # The key comes over a pipe: it is in no file.
    key, pem = json.loads(process.run(argv, deadline=_DEADLINE).stdout)
    return Certificate(made=now, key=key.encode(), pem=pem.encode())


class Own:
    """A side's own certificates. ``renew`` is to be called now and then, by one thread; any thread may read."""

    def __init__(self, name: str, clock: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._name = name
        self._clock = clock
        self._certificates: Sequence[Certificate] = (make(name, clock()),)

    def renew(self) -> bool:
        """Make the next one if it is time, and forget those that are used no more; tell whether anything changed."""
        now, before = self._clock(), self._certificates
        used = self.used()
        kept = [each for each in before if each.made >= used.made or now < used.made + 2 * _SETTLE]
        # The clock may have been set: what is not valid yet nobody accepts, perhaps for years.
        kept = [each for each in kept if _valid(each, now)]
        if not kept or now >= kept[-1].made + _RENEW:
            try:
                kept.append(make(self._name, now))
            except DriverError as error:
                # The next call tries again; half the life of a certificate is left for it.
                log.warning("no new certificate", why=str(error))
                kept = kept or list(before)
        self._certificates = tuple(kept)
        return list(before) != kept

    def used(self) -> Certificate:
        """Return the one to show: the youngest valid one that has been published for long enough, else the first."""
        now = self._clock()
        valid = [each for each in self._certificates if _valid(each, now)] or self._certificates[-1:]
        settled = [each for each in valid if now >= each.made + _SETTLE]
        return settled[-1] if settled else valid[0]

    def published(self) -> str:
        """Return all that may be shown, PEM, for the other side to accept."""
        return b"".join(each.pem for each in self._certificates).decode()


def _valid(certificate: Certificate, now: datetime) -> bool:
    return certificate.made - _SKEW <= now < certificate.made + _LIFE


def node_credentials(own: Own, controllers: Callable[[], str]) -> grpc.ServerCredentials:
    """Return the credentials of a node's server, which follow ``own`` and ``controllers``, the PEM of all controllers.

    As long as no controller is known, nobody is accepted.
    """
    configured: list[tuple[bytes, bytes, bytes]] = []

    def configuration() -> grpc.ServerCertificateConfiguration:
        shown = own.used()
        # With no root at all gRPC would fall back on the system's. Nobody else has the key to our own.
        configured[:] = [(shown.key, shown.pem, controllers().encode() or shown.pem)]
        key, pem, roots = configured[0]
        return grpc.ssl_server_certificate_configuration([(key, pem)], root_certificates=roots)

    def changed() -> grpc.ServerCertificateConfiguration | None:
        shown = own.used()
        if configured == [(shown.key, shown.pem, controllers().encode() or shown.pem)]:
            return None
        return configuration()

    # None says that nothing has changed; gRPC's types do not know it.
    fetcher = cast("Callable[[], grpc.ServerCertificateConfiguration]", changed)
    return grpc.dynamic_ssl_server_credentials(configuration(), fetcher, require_client_authentication=True)


def admitted(context: grpc.ServicerContext, controllers: str) -> bool:
    """Tell whether the certificate that the caller showed is one of ``controllers`` (PEM) now.

    TLS looks when a connection is made, and one may last for days.
    """
    # gRPC's types take a property for one value; it is a list of them.
    shown = cast("Sequence[bytes]", context.auth_context().get("x509_pem_cert", ()))
    return any(each.decode().strip() in controllers for each in shown)


def channel(address: str, own: Own, node: str, options: Sequence[tuple[str, str | int]] = ()) -> grpc.Channel:
    """Return a channel of a controller to the node at ``address`` that shows one of the certificates in ``node``."""
    shown = own.used()
    credentials = grpc.ssl_channel_credentials(node.encode(), shown.key, shown.pem)
    return grpc.secure_channel(address, credentials, [("grpc.ssl_target_name_override", NODE), *options])
