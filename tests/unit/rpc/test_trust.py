"""Who gets through to a node: the controllers that it was told of, and nobody else."""

import socket
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, cast

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from csi.pb.csi.v1 import csi_pb2 as pb
from csi.pb.csi.v1 import csi_pb2_grpc
from csi.rpc import trust
from csi.rpc.server import controller_server
from csi.rpc.trust import CONTROLLER, NODE, Own
from tests.unit.rpc.fake import FakeNode

if TYPE_CHECKING:
    from csi.volumes.node import Node

NOW = datetime.now(UTC)


class Clock:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> datetime:
        return self.now

    def advance(self, **by: float) -> None:
        self.now += timedelta(**by)


class Served:
    """A node's server, and the controllers that were published."""

    def __init__(self, **ago: float) -> None:
        self.clock = Clock()
        self.clock.advance(**ago)
        self.own = Own(NODE, self.clock)
        self.controllers = ""
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.address = f"127.0.0.1:{free.getsockname()[1]}"
        node = cast("Node", FakeNode())
        self.server = controller_server(node, self.address, self.own, lambda: self.controllers)
        self.server.start()

    def lets_in(self, channel: grpc.Channel) -> bool:
        """Tell whether a call over the channel is answered."""
        with closing(channel):
            try:
                csi_pb2_grpc.IdentityStub(channel).Probe(pb.ProbeRequest(), timeout=30)
            except grpc.RpcError as error:
                if error.code() is not grpc.StatusCode.UNAVAILABLE:
                    raise
                return False
            return True

    def accepts(self, own: Own, node: str = "") -> bool:
        return self.lets_in(trust.channel(self.address, own, node or self.own.published()))


@pytest.fixture
def served() -> Iterator[Served]:
    made = Served()
    yield made
    made.server.stop(0)


def shows(served: Served, key: bytes, chain: bytes) -> grpc.Channel:
    credentials = grpc.ssl_channel_credentials(served.own.published().encode(), key or None, chain or None)
    return grpc.secure_channel(served.address, credentials, [("grpc.ssl_target_name_override", NODE)])


def test_a_published_controller_gets_through_and_one_that_is_not_does_not(served: Served) -> None:
    first, second = Own(CONTROLLER), Own(CONTROLLER)
    assert not served.accepts(first)
    served.controllers = first.published()
    assert served.accepts(first)
    assert not served.accepts(second)
    served.controllers += second.published()
    assert served.accepts(first)
    assert served.accepts(second)


def test_a_replaced_one_does_not(served: Served) -> None:
    first, second = Own(CONTROLLER), Own(CONTROLLER)
    served.controllers = first.published()
    assert served.accepts(first)
    served.controllers = second.published()
    assert not served.accepts(first)


def test_a_connection_of_a_replaced_one_is_of_no_more_use(served: Served) -> None:
    first, second = Own(CONTROLLER), Own(CONTROLLER)
    served.controllers = first.published() + second.published()
    with closing(trust.channel(served.address, first, served.own.published())) as channel:
        stub = csi_pb2_grpc.IdentityStub(channel)
        stub.Probe(pb.ProbeRequest(), timeout=30)
        served.controllers = second.published()
        with pytest.raises(grpc.RpcError, match="not accepted any more"):
            stub.Probe(pb.ProbeRequest(), timeout=30)
        served.controllers += first.published()
        stub.Probe(pb.ProbeRequest(), timeout=30)


def test_nobody_gets_through_without_a_certificate_or_with_a_nodes(served: Served) -> None:
    controller, another = Own(CONTROLLER), Own(NODE)
    served.controllers = controller.published()
    assert not served.lets_in(shows(served, b"", b""))
    assert not served.lets_in(shows(served, another.used().key, another.used().pem))
    # A node's own certificate serves, it does not ask; not even its own does.
    assert not served.lets_in(shows(served, served.own.used().key, served.own.used().pem))


def test_a_published_certificate_signs_no_other(served: Served) -> None:
    controller = Own(CONTROLLER)
    served.controllers = controller.published()
    issuer = x509.load_pem_x509_certificate(controller.used().pem)
    signer = serialization.load_pem_private_key(controller.used().key, None)
    assert isinstance(signer, ec.EllipticCurvePrivateKey)
    key = ec.generate_private_key(ec.SECP256R1())
    forged = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([]))
        .issuer_name(issuer.subject)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(NOW - timedelta(hours=1))
        .not_valid_after(NOW + timedelta(days=1))
        .sign(signer, hashes.SHA256())
        .public_bytes(serialization.Encoding.PEM)
    )
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    assert not served.lets_in(shows(served, private, forged + controller.used().pem))


def test_a_controller_talks_to_the_node_that_it_means_and_to_no_other(served: Served) -> None:
    controller = Own(CONTROLLER)
    served.controllers = controller.published()
    assert not served.accepts(controller, Own(NODE).published())


def test_renewal_interrupts_nobody() -> None:
    # TLS has a clock of its own: what is made on the way must be valid today.
    served = Served(days=-16)
    controller = Own(CONTROLLER, served.clock)
    shown = {controller.used().pem}
    told = (controller.published(), served.own.published())
    for _ in range(2 * 24 * 16):
        served.clock.advance(minutes=30)
        # Each side sees what the other has published half an hour later.
        served.controllers, seen = told
        if controller.renew() | served.own.renew() | (controller.used().pem not in shown):
            shown.add(controller.used().pem)
            assert served.accepts(controller, seen)
        told = (controller.published(), served.own.published())
    assert len(shown) == 2
    assert controller.published().count("BEGIN") == 1
    served.server.stop(0)


def test_an_expired_certificate_is_none() -> None:
    served = Served()
    old = Own(CONTROLLER, lambda: NOW - timedelta(days=31))
    served.controllers = old.published()
    assert not served.accepts(old)
    served.server.stop(0)


def test_a_clock_that_is_set_back_leaves_no_certificate_that_is_not_valid_yet() -> None:
    clock = Clock()
    own = Own(NODE, clock)
    clock.advance(days=-400)
    assert own.renew()
    assert not own.renew()
    (shown,) = x509.load_pem_x509_certificates(own.published().encode())
    assert shown.not_valid_before_utc <= clock() < shown.not_valid_after_utc
    assert own.used().pem.decode() == own.published()


def test_a_clock_that_is_put_right_leaves_a_certificate_that_is_valid_at_once() -> None:
    """A machine boots without the time, makes its certificate, and is told the time."""
    clock = Clock()
    clock.advance(days=-20000)
    own = Own(NODE, clock)
    clock.advance(days=20000)
    assert own.renew()
    (shown,) = x509.load_pem_x509_certificates(own.used().pem)
    assert shown.not_valid_before_utc <= clock() < shown.not_valid_after_utc
    assert own.used().pem.decode() == own.published()


def test_a_certificate_that_cannot_be_made_leaves_those_that_are(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    own = Own(NODE, clock)
    before = own.published()
    with monkeypatch.context() as patched:
        patched.setattr(trust, "_PROGRAM", "/nonexistent")
        for _ in range(2):
            clock.advance(days=20)
            assert not own.renew()
            assert own.published() == before
    assert own.renew()
    (shown,) = x509.load_pem_x509_certificates(own.published().encode())
    assert shown.not_valid_before_utc <= clock() < shown.not_valid_after_utc
