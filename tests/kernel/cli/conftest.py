"""What the tests of the command share: places of their own, the command as a process, and what is left after it."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.guest.machine import ROOT

_START = 120.0
_END = 60.0
_POOLS = """\
pools:
  - name: small
    mode: loop-lvm
    loop: {dataSize: 1Gi, metadataSize: 256Mi}
"""

Done = subprocess.CompletedProcess[str]


@dataclass
class Host:
    """The directories of one node, and the command on them."""

    base: Path
    running: list["subprocess.Popen[bytes]"] = field(default_factory=list)

    @property
    def socket(self) -> Path:
        return self.base / "csi.sock"

    @property
    def registry(self) -> Path:
        return self.base / "plugins_registry"

    @property
    def log(self) -> str:
        return (self.base / "log").read_text()

    def run(self, name: str, *arguments: str, endpoint: Path | None = None) -> Done:
        """Run a subcommand to its end."""
        where = [] if name == "deactivate" else ["--endpoint", f"unix://{endpoint or self.socket}"]
        return subprocess.run(
            [*_command(name), *where, *self._place(), *arguments],
            check=False,
            capture_output=True,
            text=True,
            timeout=_START,
            cwd=ROOT,
        )

    def json(self, name: str) -> dict[str, Any]:
        done = self.run(name, "--output", "json")
        assert done.returncode == 0, done.stderr
        found = json.loads(done.stdout)
        assert isinstance(found, dict)
        return found

    def start(self) -> "subprocess.Popen[bytes]":
        """Begin to start a node."""
        arguments = ["--endpoint", f"unix://{self.socket}", "--registration-dir", str(self.registry)]
        return self.start_with([*arguments, *self._place()])

    def start_with(self, arguments: Sequence[str]) -> "subprocess.Popen[bytes]":
        """Begin to start a node with just these arguments."""
        with (self.base / "log").open("wb") as log:
            process = subprocess.Popen([*_command("node"), *arguments], stderr=log, cwd=ROOT)
        self.running.append(process)
        return process

    def started(self) -> "subprocess.Popen[bytes]":
        """Start a node and wait until it is ready."""
        process = self.start()
        wait_for(lambda: '"event": "ready"' in self.log or process.poll() is not None, _START)
        assert process.poll() is None, self.log
        return process

    def end(self, process: "subprocess.Popen[bytes]", number: signal.Signals = signal.SIGTERM) -> int:
        """Send a signal and return the exit status."""
        process.send_signal(number)
        return process.wait(_END)

    def _place(self) -> list[str]:
        pools = self.base / "pools.yaml"
        pools.write_text(_POOLS)
        directories = {"--state-dir": "state", "--run-dir": "run", "--kubelet-dir": "kubelet"}
        return [
            "--pools",
            str(pools),
            *(part for key, name in directories.items() for part in (key, f"{self.base}/{name}")),
        ]


@pytest.fixture
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    made = Host(tmp_path_factory.mktemp("host"))
    (made.base / "kubelet").mkdir()
    with ExitStack() as stack:
        stack.callback(subprocess.run, ["umount", str(made.base / "run")], check=False, capture_output=True, timeout=30)
        stack.callback(made.run, "deactivate")
        yield made
        for process in made.running:
            process.kill()
            process.wait(_END)


@pytest.fixture
def disk_directory(tmp_path: Path) -> Iterator[Path]:
    """Return a directory on a disk: what else a guest has is memory."""
    disk = os.environ["THINPOOL_TEST_DISKS"].split()[0]
    subprocess.run(["mkfs.ext4", "-q", "-F", disk], check=True, timeout=60)
    subprocess.run(["mount", disk, str(tmp_path)], check=True, timeout=60)
    yield tmp_path
    subprocess.run(["umount", str(tmp_path)], check=True, timeout=60)


def wait_for(condition: Callable[[], bool], limit: float) -> None:
    """Wait until ``condition`` holds; fail after ``limit`` seconds."""
    deadline = time.monotonic() + limit
    while not condition():
        assert time.monotonic() < deadline, "it did not come about"
        time.sleep(0.1)


def left_over(below: Path) -> list[str]:
    """Return the devices, loop devices, mounts and processes that have to do with a directory's node."""
    names = subprocess.run(["dmsetup", "ls"], check=True, capture_output=True, text=True, timeout=30).stdout
    loops = subprocess.run(["losetup", "--all"], check=True, capture_output=True, text=True, timeout=30).stdout
    mounts = Path("/proc/self/mounts").read_text()
    processes = []
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        # A process may end between the list and the look.
        with suppress(FileNotFoundError, ProcessLookupError):
            if file.parent.name != str(os.getpid()):
                processes.append(file.read_bytes().replace(b"\0", b" ").decode())
    return [
        *(line for line in names.splitlines() if line.startswith("thinpool")),
        *(line for line in (*loops.splitlines(), *mounts.splitlines()) if f"{below}/" in line),
        *(line for line in processes if f"{below}/" in line),
    ]


def _command(name: str) -> list[str]:
    return [sys.executable, "-m", "csi", name]
