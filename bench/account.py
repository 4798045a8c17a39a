"""A pod's account on the tests' stand-in of a cluster: the node under measurement connects as in a DaemonSet."""

import os
import ssl
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from http.server import HTTPServer
from ipaddress import IPv4Address
from pathlib import Path
from typing import Final
from unittest.mock import patch

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

_ACCOUNT: Final = Path("/var/run/secrets/kubernetes.io/serviceaccount")
_HOST: Final = "127.0.0.1"


@contextmanager
def in_pod(server: HTTPServer, base: Path) -> Iterator[None]:
    """Let ``server`` speak TLS, and the programs that are started in the body find it as a pod finds its cluster."""
    key, certificate = base / "api.key", base / "api.crt"
    _make(key, certificate)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    place = {"KUBERNETES_SERVICE_HOST": _HOST, "KUBERNETES_SERVICE_PORT": str(server.server_port)}
    with ExitStack() as stack:
        _ACCOUNT.mkdir(parents=True)
        stack.callback(_ACCOUNT.rmdir)
        for name, text in (("ca.crt", certificate.read_text()), ("token", "none")):
            (_ACCOUNT / name).write_text(text)
            stack.callback((_ACCOUNT / name).unlink)
        stack.enter_context(patch.dict(os.environ, place))
        yield


def _make(key_file: Path, file: Path) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "kubernetes")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(IPv4Address(_HOST))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    key_file.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    file.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
