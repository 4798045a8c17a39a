"""What the process tells over HTTP of itself."""

import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest
from prometheus_client import CollectorRegistry

from csi.agent.http import HttpServer, split
from csi.agent.metrics import Calls
from csi.errors import InvalidRequestError, KernelError


@dataclass
class Watched:
    """A server, and what is wrong with what it tells of."""

    trouble: dict[str, str] = field(default_factory=dict)
    registry: CollectorRegistry = field(default_factory=CollectorRegistry)
    server: HttpServer = field(init=False)

    def __post_init__(self) -> None:
        self.server = HttpServer(
            "127.0.0.1:0",
            self.registry,
            healthy=lambda: self.trouble.get("healthy", ""),
            ready=lambda: self.trouble.get("ready", ""),
        )
        self.server.start()

    def get(self, path: str) -> tuple[int, str]:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.server.port}{path}", timeout=30) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()


@pytest.fixture
def watched() -> Iterator[Watched]:
    made = Watched()
    yield made
    made.server.stop()


def test_health_and_readiness_are_told_apart_and_say_why(watched: Watched) -> None:
    assert watched.get("/healthz") == watched.get("/readyz") == (200, "ok\n")
    watched.trouble["ready"] = "the cluster is silent"
    assert watched.get("/healthz")[0] == 200
    assert watched.get("/readyz") == (503, "the cluster is silent\n")


def test_calls_are_counted_by_method_and_code(watched: Watched) -> None:
    calls = Calls(watched.registry)
    calls.observe("Controller.CreateVolume", "OK", 0.004)
    calls.observe("Controller.CreateVolume", "ABORTED", 0.001)
    status, text = watched.get("/metrics")
    assert status == 200
    counted = 'thinpool_csi_operation_duration_seconds_count{code="OK",method="Controller.CreateVolume"} 1.0'
    assert counted in text
    assert 'le="0.005",method="Controller.CreateVolume"} 1.0' in text


def test_nothing_else_is_there(watched: Watched) -> None:
    assert watched.get("/etc/passwd")[0] == 404


def test_it_serves_on_ipv6_as_well() -> None:
    server = HttpServer("::1:0", CollectorRegistry(), lambda: "", lambda: "")
    server.start()
    with urllib.request.urlopen(f"http://[::1]:{server.port}/healthz", timeout=30) as answer:
        assert answer.status == 200
    server.stop()


def test_an_address_that_is_taken_is_said(watched: Watched) -> None:
    with pytest.raises(KernelError, match="EADDRINUSE"):
        HttpServer(f"127.0.0.1:{watched.server.port}", watched.registry, lambda: "", lambda: "")


@pytest.mark.parametrize(
    ("address", "parts"),
    [
        ("10.0.0.1:9810", ("10.0.0.1", 9810)),
        ("[fd00::1]:80", ("fd00::1", 80)),
        # As a pod's manifest puts it together.
        ("fd00::1:80", ("fd00::1", 80)),
    ],
)
def test_an_address_is_a_host_and_a_port(address: str, parts: tuple[str, int]) -> None:
    assert split(address) == parts


@pytest.mark.parametrize("address", ["", ":1", "10.0.0.1", "10.0.0.1:", "a:b", "a:1/x", "a:99999"])
def test_anything_else_is_refused(address: str) -> None:
    with pytest.raises(InvalidRequestError, match="write"):
        split(address)
