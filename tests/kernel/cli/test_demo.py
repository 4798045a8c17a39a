"""The demo: all its checks pass, and whether it ends, is broken off or loses its node, nothing of it is left."""

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.guest.machine import ROOT
from tests.kernel.cli.conftest import left_over, wait_for

LIMIT = 400.0

Demo = subprocess.Popen[bytes]


@pytest.fixture
def output(disk_directory: Path) -> Path:
    return disk_directory.with_suffix(".out")


@pytest.fixture
def demo(disk_directory: Path, output: Path) -> Iterator[Demo]:
    with output.open("wb") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "csi", "demo", "--dir", str(disk_directory)], stdout=out, stderr=out, cwd=ROOT
        )
    yield process
    if process.poll() is None:
        process.terminate()
        process.wait(LIMIT)


@pytest.mark.timeout(LIMIT)
def test_passes_and_ends_with_info(demo: Demo, disk_directory: Path, output: Path) -> None:
    assert demo.wait(LIMIT) == 0, output.read_text()
    text = output.read_text()
    assert text.index("[9/9]") < text.index("$ thinpool-csi info") < text.index("Pool Blocksize")
    assert text.splitlines()[-1].startswith("All 17 checks passed")
    _assert_nothing_left(disk_directory)


@pytest.mark.timeout(LIMIT)
@pytest.mark.parametrize(
    ("number", "status", "when"), [(signal.SIGINT, 130, "clone-25 mounted"), (signal.SIGTERM, 143, "[2/9]")]
)
def test_broken_off_it_tidies_up(
    number: int, status: int, when: str, demo: Demo, disk_directory: Path, output: Path
) -> None:
    wait_for(lambda: when in output.read_text() or demo.poll() is not None, LIMIT)
    demo.send_signal(number)
    assert demo.wait(LIMIT) == status, output.read_text()
    assert "breaking off and tidying up" in output.read_text()
    _assert_nothing_left(disk_directory)


@pytest.mark.timeout(LIMIT)
def test_without_its_node_it_fails_and_tidies_up(demo: Demo, disk_directory: Path, output: Path) -> None:
    wait_for(lambda: "clone-25 mounted" in output.read_text() or demo.poll() is not None, LIMIT)
    os.kill(_node_of(demo), signal.SIGKILL)
    assert demo.wait(LIMIT) == 1, output.read_text()
    assert "demo failed: " in output.read_text()
    assert "(exit status -9)" in output.read_text()
    _assert_nothing_left(disk_directory)


@pytest.mark.usefixtures("disk_directory")
def test_a_directory_that_is_not_there_is_said() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "csi", "demo", "--dir", "/nonexistent"],
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
        cwd=ROOT,
    )
    assert done.returncode == 1
    assert "cannot work in /nonexistent: No such file or directory" in done.stderr


def _node_of(demo: Demo) -> int:
    parent = f"PPid:\t{demo.pid}\n"
    found = []
    for file in Path("/proc").glob("[0-9]*/status"):
        # A process may end between the list and the look.
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            if parent in file.read_text():
                found.append(int(file.parent.name))
    (node,) = found
    return node


def _assert_nothing_left(directory: Path) -> None:
    assert left_over(directory) == []
    assert [file.name for file in directory.iterdir()] == ["lost+found"]
