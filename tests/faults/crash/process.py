"""The node as a process of its own that is killed and started again."""

import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Final

from csi.cli.client import listening

_START: Final = 300.0
_END: Final = 60.0


class NodeProcess:
    """``thinpool-csi node``, one after the other, with the same directories."""

    def __init__(self, place: Path, state: Path, pools: Path, kubelet: Path) -> None:
        self.socket = f"{place}/csi.sock"
        self.kubelet = kubelet
        self.run_dir = place / "run"
        self._place = [
            *("--pools", str(pools), "--node-name", "node-a", "--state-dir", str(state)),
            *("--run-dir", str(self.run_dir), "--kubelet-dir", str(kubelet)),
        ]
        self._process: subprocess.Popen[bytes] | None = None

    def spawn(self) -> None:
        """Start it, and do not wait."""
        endpoint = ("--endpoint", f"unix://{self.socket}")
        argv = [sys.executable, "-m", "csi", "node", *endpoint, *self._place, "--log-level", "error"]
        self._process = subprocess.Popen(argv)

    def start(self) -> None:
        """Start it and wait until it serves."""
        self.spawn()
        assert self._process is not None
        deadline = time.monotonic() + _START
        while not listening(self.socket):
            assert self._process.poll() is None, f"the node did not start: {self._process.returncode}"
            assert time.monotonic() < deadline, "the node does not serve"
            time.sleep(0.05)

    def signal(self, number: int) -> None:
        """Send it a signal."""
        assert self._process is not None
        self._process.send_signal(number)

    def stop(self, number: int) -> None:
        """Send it a signal and wait until it is gone."""
        process = self._process
        assert process is not None
        process.send_signal(number)
        status = process.wait(_END)
        assert status == (-number if number == signal.SIGKILL else 0), f"the node ended with {status}"
        if number == signal.SIGKILL:
            # What it left listening; a new one takes its place.
            Path(self.socket).unlink(missing_ok=True)

    def deactivate(self) -> None:
        """Take the pool out of the kernel; the node has ended."""
        self.command("deactivate")

    def command(self, *words: str) -> None:
        """Run one of the program's other commands on the pools; the node has ended."""
        subprocess.run([sys.executable, "-m", "csi", *words, *self._place], check=True, timeout=120)
