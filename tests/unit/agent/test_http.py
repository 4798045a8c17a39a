"""What the process tells over HTTP of itself."""

import socket
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import ExitStack
from dataclasses import dataclass, field

import pytest
from prometheus_client import CollectorRegistry, Metric
from prometheus_client.registry import Collector

from csi.agent.http import HttpServer, split
from csi.agent.metrics import Calls
from csi.errors import InvalidRequestError, KernelError

LIMIT = 20.0
BOUND = 50
"""Threads: as many as connections, and some that are about to end."""
SCRAPERS = 20


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


class Slow(Collector):
    """Takes until it may go on; notes how many are at it at most."""

    def __init__(self) -> None:
        self.begun, self.go_on = threading.Event(), threading.Event()
        self.now = self.most = 0

    def describe(self) -> list[Metric]:
        return []

    def collect(self) -> list[Metric]:
        self.now += 1
        self.most = max(self.most, self.now)
        self.begun.set()
        assert self.go_on.wait(LIMIT)
        self.now -= 1
        return []


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


def test_a_server_that_was_never_started_is_stopped_at_once() -> None:
    server = HttpServer("127.0.0.1:0", CollectorRegistry(), lambda: "", lambda: "")
    stop = threading.Thread(target=server.stop, daemon=True)
    stop.start()
    stop.join(LIMIT)
    assert not stop.is_alive()


def test_idle_connections_take_no_more_than_some_threads_and_keep_no_probe_out(watched: Watched) -> None:
    before = threading.active_count()
    with ExitStack() as idle:
        for _ in range(200):
            idle.enter_context(socket.create_connection(("127.0.0.1", watched.server.port), timeout=LIMIT))
        assert watched.get("/healthz") == (200, "ok\n")
        assert threading.active_count() <= before + BOUND


def test_metrics_are_gathered_once_at_a_time_and_keep_no_probe_out(watched: Watched) -> None:
    slow = Slow()
    watched.registry.register(slow)
    with ThreadPoolExecutor(SCRAPERS) as scrapers:
        scrapes = [scrapers.submit(watched.get, "/metrics") for _ in range(SCRAPERS)]
        assert slow.begun.wait(LIMIT)
        refused = next(as_completed(scrapes, LIMIT))
        assert refused.result()[0] == 503
        assert watched.get("/healthz") == (200, "ok\n")
        slow.go_on.set()
    assert {each.result()[0] for each in scrapes} == {200, 503}
    assert slow.most == 1


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
