"""A node that serves on a socket of its own, with the driver's real server in front of a fake node."""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import pytest
import structlog
from structlog.testing import capture_logs
from structlog.typing import EventDict

from csi.__main__ import main
from csi.rpc.server import node_server
from tests.unit.kube.fake import FakeApi
from tests.unit.rpc.fake import FakeNode

if TYPE_CHECKING:
    from csi.volumes.node import Node


@dataclass(frozen=True)
class Said:
    """What a command left."""

    status: int
    out: str
    err: str

    @property
    def json(self) -> dict[str, Any]:
        found = json.loads(self.out)
        assert isinstance(found, dict)
        return found


Command = Callable[..., Said]


@pytest.fixture(autouse=True)
def lines(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[EventDict]]:
    """The log lines: those of the node, and of the command line, which share this process."""
    # A logger keeps the stream it was first used with, and here each test has one of its own.
    monkeypatch.setattr("csi.log.configure", lambda *_settings: None)
    structlog.reset_defaults()
    with capture_logs() as captured:
        yield captured
    structlog.reset_defaults()


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str]) -> Command:
    """Run the command line within this process."""

    def call(*arguments: str) -> Said:
        try:
            status = main(arguments)
        except SystemExit as end:  # argparse's way
            status = end.code if isinstance(end.code, int) else 1
        out, err = capsys.readouterr()
        return Said(status, out, err)

    return call


@pytest.fixture
def fake() -> FakeNode:
    return FakeNode()


@pytest.fixture
def socket(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cli") / "csi.sock"


@pytest.fixture
def endpoint(fake: FakeNode, socket: Path) -> Iterator[str]:
    """Serve the fake node, and say where."""
    server = node_server(cast("Node", fake), f"unix://{socket}")
    server.start()
    yield f"unix://{socket}"
    server.stop(0)


def write_kubeconfig(directory: Path, fake_api: FakeApi) -> Path:
    """Write what leads a command to the stand-in for the cluster's API."""
    server = f"http://127.0.0.1:{fake_api.server.server_port}"
    context = {"name": "c", "context": {"cluster": "c", "user": "u"}}
    users, clusters = [{"name": "u", "user": {}}], [{"name": "c", "cluster": {"server": server}}]
    whole = {"current-context": "c", "contexts": [context], "users": users, "clusters": clusters}
    file = directory / "kubeconfig"
    file.write_text(json.dumps({"apiVersion": "v1", "kind": "Config", **whole}))
    return file
