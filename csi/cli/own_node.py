"""A node of the demo's own, in a directory of its own, and its end: no process, mount, device or file is left."""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import csi
from csi import process
from csi.cli.account import Account, DemoError
from csi.cli.client import listening
from csi.dm.ioctl import Control
from csi.dm.thin_device import ThinDevice, ours
from csi.errors import DriverError
from csi.fs import mount, mountinfo
from csi.fs.paths import Root
from csi.model import SENTINEL, Handle, PoolId, ThinId
from csi.units import GIB, Bytes, format_size

_ROOM: Final = Bytes(1 * GIB)
_START: Final = 120.0
_END: Final = 40.0
_DEACTIVATE: Final = 120.0
_TAIL: Final = 8
_LAST_WORDS: Final = 0.5
_SAYS: Final = "thinpool-csi: "


class OwnNode:
    """A node process on an embedded loop-lvm pool below ``directory``."""

    def __init__(self, directory: Path, account: Account) -> None:
        self.directory = directory
        self.socket = str(directory / "csi.sock")
        self.kubelet = directory / "kubelet"
        self._account = account
        self._log = directory / "node.log"
        self._process: subprocess.Popen[bytes] | None = None

    @classmethod
    @contextlib.contextmanager
    def below(cls, parent: Path, account: Account) -> Iterator["OwnNode"]:
        """Make a directory for a node, and see in the end that nothing is left of both.

        Raise DemoError if the directory will not do.
        """
        try:
            room = os.statvfs(parent)
            directory = Path(tempfile.mkdtemp(prefix="thinpool-demo-", dir=parent.resolve()))
        except OSError as error:
            message = f"cannot work in {parent}: {error.strerror}"
            raise DemoError(message) from error
        node = cls(directory, account)
        try:
            if room.f_bavail * room.f_frsize < _ROOM:
                message = f"{parent} has less than {format_size(_ROOM)} left; name another directory with --dir"
                raise DemoError(message)
            yield node
        finally:
            node.remove()

    def start(self) -> float:
        """Start the node and wait until it serves; return the seconds it took. Raise DemoError."""
        begun = time.monotonic()
        self.kubelet.mkdir(mode=0o755)
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(  # noqa: S603 - our own program
                [*_command("node"), *self._place(), "--endpoint", f"unix://{self.socket}", "--log-format", "console"],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=_environment(),
                # So that Ctrl-C reaches us alone: there is something to tidy up before the node ends.
                start_new_session=True,
            )
        while not listening(self.socket):
            if self._process.poll() is not None:
                message = f"the node did not start: {self._last_line()}"
                raise DemoError(message)
            if time.monotonic() - begun > _START:
                message = f"the node did not serve within {_START:g} s: {self._last_line()}"
                raise DemoError(message)
            self._account.progress(f"... {time.monotonic() - begun:.0f} s")
            time.sleep(0.1)
        return time.monotonic() - begun

    def stop(self) -> int:
        """End the node, as a service manager would, and take its pool out of the kernel; return its exit status.

        Raise DriverError if something is left in the kernel.
        """
        if self._process is None:
            return 0
        child, self._process = self._process, None
        status = _end(child)
        self._unmount(self.kubelet)
        self._deactivate_volumes()
        if (self.directory / "state" / "loop").exists():
            process.run([*_command("deactivate"), *self._place()], deadline=_DEACTIVATE, env=_environment())
        self._unmount(self.directory)
        return status

    def remove(self) -> None:
        """See that nothing is left; say what could not be removed."""
        try:
            self.stop()
            shutil.rmtree(self.directory)
        except (DriverError, OSError) as error:
            print(f"thinpool-csi: {self.directory} is not tidied up: {error}", file=sys.stderr)

    def last_words(self) -> list[str]:
        """Return the last lines of the node's log, and its exit status if it has ended."""
        try:
            lines = self._log.read_text(errors="replace").splitlines()[-_TAIL:]
        except OSError:
            return []
        if self._process is not None:
            # Its end is known a little later than its socket's.
            with contextlib.suppress(subprocess.TimeoutExpired):
                lines.append(f"(exit status {self._process.wait(_LAST_WORDS)})")
        return lines

    def _last_line(self) -> str:
        said = [line for line in self.last_words() if line.startswith(_SAYS)]
        return said[-1].removeprefix(_SAYS) if said else "see its log above"

    def _place(self) -> list[str]:
        return [
            *("--state-dir", str(self.directory / "state")),
            *("--run-dir", str(self.directory / "run")),
            *("--kubelet-dir", str(self.kubelet)),
        ]

    def _deactivate_volumes(self) -> None:
        """Deactivate what is active still: only after the node died, or did not answer any more."""
        catalog = next(iter((self.directory / "run").glob("*/catalog")), None)
        if catalog is None:
            return
        pool = PoolId(catalog.parent.name)
        with Control() as control:
            for info in ours(control, pool):
                thin = ThinId(int(info.name.rpartition("-")[2]))
                if thin != SENTINEL:
                    self._account.say(f"removing the device {info.name}, which was left active")
                    ThinDevice(control, Handle(pool, thin)).deactivate()

    def _unmount(self, below: Path) -> None:
        root = Root(str(self.directory))
        for there in reversed(mountinfo.mounts()):
            if Path(there.mount_point).is_relative_to(below):
                mount.unmount(root, there.mount_point)


def _end(child: "subprocess.Popen[bytes]") -> int:
    child.send_signal(signal.SIGTERM)
    try:
        return child.wait(_END)
    except subprocess.TimeoutExpired:
        child.kill()
        return child.wait(_END)


def _command(name: str) -> list[str]:
    return [sys.executable, "-m", "csi", name]


def _environment() -> dict[str, str]:
    # The program that we are ourselves, wherever it was started from.
    ours_first = [os.path.dirname(os.path.dirname(csi.__file__)), os.environ.get("PYTHONPATH", "")]
    return dict(os.environ) | {"PYTHONPATH": os.pathsep.join(filter(None, ours_first))}
