"""A program that makes a key and a certificate and writes both to standard output: [key, certificate], PEM.

    certificate.py NAME server|client NOT-BEFORE NOT-AFTER

A program of its own, which needs nothing else of ours: it loads 12 MiB, twice a month, and is gone.
"""

import json
import sys
from collections.abc import Sequence
from datetime import datetime
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

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
_USES: Final = {"server": ExtendedKeyUsageOID.SERVER_AUTH, "client": ExtendedKeyUsageOID.CLIENT_AUTH}


def make(name: str, use: str, begin: datetime, end: datetime) -> tuple[bytes, bytes]:
    """Make a key and a certificate for ``name`` that is signed by itself and may sign nothing; return both, PEM."""
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
        .not_valid_before(begin)
        .not_valid_after(end)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_NO_SIGNING, critical=True)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .add_extension(x509.ExtendedKeyUsage([_USES[use]]), critical=True)
        .sign(key, hashes.SHA256())
    )
    return (
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()),
        certificate.public_bytes(serialization.Encoding.PEM),
    )


def main(arguments: Sequence[str]) -> None:
    """Make them as the arguments say."""
    name, use, begin, end = arguments
    made = make(name, use, datetime.fromisoformat(begin), datetime.fromisoformat(end))
    json.dump([each.decode() for each in made], sys.stdout)


if __name__ == "__main__":
    main(sys.argv[1:])
