"""Settings of unit tests, and a stand-in for the cluster's API."""

import threading
import time
from collections.abc import Iterator
from typing import Final

import hypothesis
import pytest
from kubernetes.client.configuration import Configuration

from csi.kube.api import Api
from tests.unit.kube.fake import FakeApi

# The machine's load must not fail a test, and two runs of one tree must not differ.
hypothesis.settings.register_profile("thinpool-csi", deadline=None, database=None, derandomize=True)
hypothesis.settings.load_profile("thinpool-csi")

_PATIENCE: Final = 30.0
"""Seconds in which what a test stopped comes to its end."""


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Fail if a thread that reads from the network outlives the tests: the interpreter aborts if it wakes too late."""
    deadline = time.monotonic() + _PATIENCE
    while (left := _reading()) and time.monotonic() < deadline:
        left[0].join(1)
    if left:
        print(f"\nFAILED: threads outlive the tests: {', '.join(thread.name for thread in left)}")  # noqa: T201 - pytest shows it
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def _reading() -> list[threading.Thread]:
    """Return the threads that may sit in a read: all but those of executors and timers, which wait for a lock."""
    idle = "ThreadPoolExecutor", "rpc"
    return [
        each
        for each in threading.enumerate()
        if each is not threading.main_thread()
        and not isinstance(each, threading.Timer)
        and not each.name.startswith(idle)
    ]


@pytest.fixture
def fake_api() -> Iterator[FakeApi]:
    made = FakeApi()
    yield made
    made.end()


@pytest.fixture
def api(fake_api: FakeApi) -> Iterator[Api]:
    made = Api(Configuration(host=f"http://127.0.0.1:{fake_api.server.server_port}"))
    yield made
    made.rest.close()
