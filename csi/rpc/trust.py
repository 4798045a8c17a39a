"""Trust between the controllers and the nodes of a cluster: certificates that each side makes for itself.

A side makes a key and a certificate when it starts, keeps the key in memory, and publishes the certificate where only
its own account can write. The other side accepts exactly what is published there, and nothing that is signed with it:
none of the certificates may sign others. A certificate is made anew long before it ends, published first and used only
when the other side has had time to see it; meanwhile both are accepted.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final, cast

import grpc
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

NODE: Final = "thinpool-csi-node"
CONTROLLER: Final = "thinpool-csi-controller"

_LIFE: Final = timedelta(days=30)
_RENEW: Final = timedelta(days=15)
"""The age at which the next one is made."""
_SETTLE: Final = timedelta(hours=1)
"""How long one is published before it is used, and after it was used last."""
_SKEW: Final = timedelta(hours=1)
"""By how much the other side's clock may be behind."""

_COMMON_NAME: Final = 64
"""The longest (RFC 5280, ub-common-name)."""
# BoringSSL takes what is signed with a trusted certificate, of a CA or not, unless its key is not for signing those.
_NO_SIGNING: Final = x509.KeyUsage(
    digital_signature=True,
    content_commitment=False,
    key_encipherment=False,
    data_encipherment=False,
    key_agreement=False,
    key_cert_sign=False,
    crl_sign=False,
    encipher_only=False,
    decipher_only=False,
)
_USES: Final = {NODE: ExtendedKeyUsageOID.SERVER_AUTH, CONTROLLER: ExtendedKeyUsageOID.CLIENT_AUTH}


@dataclass(frozen=True)
class Certificate:
    """A certificate and its key, PEM."""

    made: datetime
    key: bytes
    pem: bytes


def make(name: str, now: datetime) -> Certificate:
    """Make a key and a certificate for ``name``, NODE or CONTROLLER, that is signed by itself and may sign nothing."""
    key = ec.generate_private_key(ec.SECP256R1())
    serial = x509.random_serial_number()
    # A subject of its own: of several roots with one subject, only the first is ever looked at.
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"{name} {serial:x}"[:_COMMON_NAME])])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(serial)
        .not_valid_before(now - _SKEW)
        .not_valid_after(now + _LIFE)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_NO_SIGNING, critical=True)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .add_extension(x509.ExtendedKeyUsage([_USES[name]]), critical=True)
        .sign(key, hashes.SHA256())
    )
    return Certificate(
        made=now,
        key=key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        ),
        pem=certificate.public_bytes(serialization.Encoding.PEM),
    )


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
            kept.append(make(self._name, now))
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
