"""One cluster for all tests here."""

import re
import signal
from collections.abc import Generator, Iterator

import pytest

from tests.cluster.cluster import Cluster
from tests.cluster.driver import VALUES, Driver
from tests.cluster.pods import Pods, namespace

_NODES = {"node-1": ("8G", "8G"), "node-2": ("8G", "12G")}
_TEST_LIMIT = 1500


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.nodeid.startswith("tests/cluster/") and item.get_closest_marker("timeout") is None:
            item.add_marker(pytest.mark.timeout(_TEST_LIMIT, func_only=True))


@pytest.fixture(scope="session")
def cluster(request: pytest.FixtureRequest) -> Iterator[Cluster]:
    """A cluster with no driver in it."""
    capture = request.config.pluginmanager.getplugin("capturemanager")

    def say(line: str) -> None:
        with capture.global_and_fixture_disabled():
            print(f"\n{line}", end="", flush=True)

    # Told to end, pytest takes down what it has set up.
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with Cluster(_NODES, say=say) as made:
            yield made
    finally:
        signal.signal(signal.SIGTERM, before)


@pytest.fixture(scope="session")
def driver(cluster: Cluster) -> Driver:
    """The driver, installed by its chart, its pool made on blank disks of all nodes."""
    cluster.install(VALUES)
    made = Driver(cluster)
    made.wait_pool(*cluster.nodes)
    return made


@pytest.fixture
def pods(cluster: Cluster, request: pytest.FixtureRequest) -> Iterator[Pods]:
    """A namespace of this test's own."""
    name = re.sub("[^a-z0-9]+", "-", request.node.name.removeprefix("test_").lower())[:60].strip("-")
    with namespace(cluster, name) as made:
        yield made


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show the cluster's state with a failure."""
    report = yield
    made = item.funcargs.get("cluster") if isinstance(item, pytest.Function) else None
    if report.failed and isinstance(made, Cluster):
        report.sections.append(("the cluster", made.logs()))
    return report
