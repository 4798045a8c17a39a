"""What `thinpool-csi node` says and how it ends when it cannot begin."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from csi.cli import node
from csi.cli.arguments import parser


def start(*arguments: str) -> "subprocess.CompletedProcess[str]":
    """Run it in a process of its own: it takes signals and forks."""
    return subprocess.run(
        [sys.executable, "-m", "csi", "node", *arguments],
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
        env=dict(os.environ) | {"PYTHONPATH": os.getcwd()},
    )


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("pools: []", "must list at least one pool"),
        ("pools: [{name: a, mode: loop-lvm, force: true}]", "pools[0].force: belongs to direct-lvm"),
        ("pools: [{name: a, devices: [sda]}]", "'sda' is not an absolute path"),
        ("{", "not YAML"),
    ],
)
def test_a_bad_pools_file_is_one_clear_line_and_status_1(content: str, says: str, tmp_path: Path) -> None:
    file = tmp_path / "pools.yaml"
    file.write_text(content)
    done = start("--pools", str(file), "--log-level", "error")
    assert done.returncode == 1
    assert done.stderr.startswith(f"thinpool-csi: read pools file {file}: ")
    assert says in done.stderr
    assert "Traceback" not in done.stderr


def test_a_pools_file_that_is_missing_is_one_clear_line_and_status_1(tmp_path: Path) -> None:
    done = start("--pools", str(tmp_path / "none.yaml"), "--log-level", "error")
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "No such file" in done.stderr


def test_the_embedded_pool_is_said_in_the_log(tmp_path: Path) -> None:
    # Ended by the endpoint, which is looked at before anything is made.
    done = start("--state-dir", str(tmp_path), "--endpoint", "unix:relative", "--log-format", "json")
    assert done.returncode == 1
    assert "embedded loop-lvm pool, for development, not for production" in done.stderr
    assert not list(tmp_path.iterdir())


def test_a_signal_while_starting_ends_it_and_one_while_serving_only_asks_for_the_end() -> None:
    service = node._Service(parser().parse_args(["node"]))
    with pytest.raises(node._EndedError):
        service.end(signal.SIGTERM)
    service.end(signal.SIGTERM)
    assert service.close() == 0
