"""One guest: boot, run a command, stream its output, bring its exit status back, be killed, boot again."""

import contextlib
import fcntl
import glob
import os
import re
import shlex
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Final, Self

from tests.guest import xstate
from tests.guest.boot import KERNEL, Boot, Result, Sink

ROOT: Final = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
"""The checkout."""

PACKAGES: Final = "user-mode-linux kmod lvm2 thin-provisioning-tools xfsprogs e2fsprogs btrfs-progs iproute2 udev"

_DISKS_LIMIT: Final = 16
_PREFIX: Final = "thinpool-guest-"
_LOCK: Final = "in-use"


class MissingError(Exception):
    """The machine lacks something that a guest needs."""


@dataclass(frozen=True)
class Link:
    """A guest's network device, there ``vec0``: the tap device ``tap`` in the network namespace ``namespace`` here."""

    namespace: str
    tap: str


def sparse_disk(path: str, size: str) -> str:
    """Make ``path`` a sparse file of ``size`` (``8G``, ``512M``) unless it is there, and return it."""
    match = re.fullmatch(r"(\d{1,9})([KMGT]?)", size)
    if match is None:
        message = f"not a disk size: {size!r} (write 8G or 512M)"
        raise ValueError(message)
    if not os.path.exists(path):
        with open(path, "xb") as disk:
            disk.truncate(int(match[1]) << {"": 0, "K": 10, "M": 20, "G": 30, "T": 40}[match[2]])
    return path


def discard_output(_stream: int, _data: bytes) -> None:
    """Show nothing; the output is in the result all the same."""


def show_output(stream: int, data: bytes) -> None:
    """Pass output on to our own standard output or standard error."""
    out = sys.stdout.buffer if stream == 1 else sys.stderr.buffer
    out.write(data)
    out.flush()


@contextlib.contextmanager
def private_directory() -> Iterator[str]:
    """Make a directory that is removed at the end, and remove those whose makers were killed before they could."""
    # Its path is handed to the guest's kernel, so there must be no blank in it, as there could be in TMPDIR.
    base = "/tmp" if " " in tempfile.gettempdir() else tempfile.gettempdir()
    for left in glob.glob(os.path.join(base, f"{_PREFIX}*", _LOCK)):
        with contextlib.suppress(OSError), open(left) as lock:  # gone, or in use
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(os.path.dirname(left), ignore_errors=True)
    with (
        tempfile.TemporaryDirectory(prefix=_PREFIX, dir=base) as directory,
        open(os.path.join(directory, "new"), "x") as lock,
    ):
        # Locked before it has the name that the sweep above looks for.
        fcntl.flock(lock, fcntl.LOCK_EX)
        os.rename(lock.name, os.path.join(directory, _LOCK))
        yield directory


class Guest:
    """A guest on a set of disks; a context manager that leaves no process and no file behind.

    ``disks`` are paths of files, in the guest ``/dev/ubda``, ``/dev/ubdb`` and so on; they are the caller's. ``udev``
    runs systemd-udevd in the guest; without it DM_DISABLE_UDEV is set. ``environment`` is laid over the guest's own.
    ``share`` is a directory of this machine that the guest may write to, there at /run/shared. ``link`` gives it a
    network device; the kernel's process then runs in that network namespace. After a command has
    ended, or after :meth:`kill`, the guest may be started again on the same disks.
    """

    def __init__(
        self,
        disks: Sequence[str] = (),
        *,
        memory_mib: int = 1024,
        udev: bool = False,
        environment: Mapping[str, str] | None = None,
        share: str = "",
        link: Link | None = None,
        sink: Sink = discard_output,
    ) -> None:
        self._disks = [os.path.abspath(disk) for disk in disks]
        self._check_disks()
        self._memory = memory_mib
        self._udev = udev
        self._environment = dict(environment or {})
        self._share = os.path.abspath(share) if share else ""
        self._link = link
        self._sink = sink
        self._stack = contextlib.ExitStack()
        self._run: Boot | None = None
        self._directory = ""

    def __enter__(self) -> Self:
        """Make the private directory that host and guest share."""
        require()
        self._directory = self._stack.enter_context(private_directory())
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Kill what runs and remove the private directory."""
        try:
            self.kill()
        finally:
            self._stack.close()

    def run(self, argv: Sequence[str], *, deadline: float, cwd: str = ROOT) -> Result:
        """Boot, run ``argv``, and return what it left. ``deadline`` is in seconds and includes the boot.

        Raise GuestLostError and DeadlineError.
        """
        self.start(argv, cwd=cwd)
        return self.wait(deadline=deadline)

    def start(self, argv: Sequence[str], *, cwd: str = ROOT) -> None:
        """Boot and begin ``argv``; do not wait for anything."""
        if not self._directory:
            message = "a Guest is a context manager: enter it first"
            raise RuntimeError(message)
        self.kill()
        self._run = Boot(
            self._prepare(argv, cwd),
            self._kernel(),
            self._sink,
            xstate.library(cache_directory()),
            namespace=self._link.namespace if self._link else "",
        )

    def wait(self, *, deadline: float) -> Result:
        """Wait until the command has ended and the guest is gone. Raise GuestLostError and DeadlineError."""
        run = self._running()
        try:
            return run.wait(deadline)
        finally:
            self.kill()

    def wait_for(self, text: str, *, deadline: float) -> None:
        """Wait until the command has written ``text`` to its standard output; it goes on running.

        Raise GuestLostError if it ends before that, DeadlineError if it takes longer.
        """
        self._running().wait_for(text, deadline)

    def add_disk(self, disk: str) -> str:
        """Give the guest one more disk, this and every later boot, and return its name there.

        Raise OSError if the guest runs and does not take it.
        """
        self._disks.append(os.path.abspath(disk))
        self._check_disks()
        name = _disk_name(len(self._disks) - 1)
        if self._run is not None:
            self._run.configure(f"{name}={self._disks[-1]}")
        return f"/dev/{name}"

    def _check_disks(self) -> None:
        if len(self._disks) > _DISKS_LIMIT:
            message = f"{len(self._disks)} disks: a guest takes at most {_DISKS_LIMIT}"
            raise ValueError(message)

    def check(self) -> None:
        """Take what a guest that goes on running has written, lest it wait for us. Raise GuestLostError if it is gone.

        Nothing happens if it was not started.
        """
        if self._run is not None:
            self._run.check()

    def kill(self) -> None:
        """Cut the power: what the guest had not flushed to its disks is lost. Nothing happens if it does not run."""
        run, self._run = self._run, None
        if run is not None:
            run.close()

    def _running(self) -> "Boot":
        if self._run is None:
            message = "the guest was not started"
            raise RuntimeError(message)
        return self._run

    def _prepare(self, argv: Sequence[str], cwd: str) -> str:
        """Write the files that the guest's first process reads, into a directory of this boot's own."""
        directory = tempfile.mkdtemp(prefix="boot-", dir=self._directory)
        shutil.copy(os.path.join(os.path.dirname(__file__), "init.sh"), directory)
        os.chmod(os.path.join(directory, "init.sh"), 0o700)
        cwd = os.path.abspath(cwd)
        temporary = sorted({path for path in (ROOT, cwd, sys.prefix, cache_directory()) if path.startswith("/tmp/")})
        for name, text in (
            ("environment", "".join(f"export {name}={shlex.quote(value)}\n" for name, value in self._variables())),
            ("command", f"cd {shlex.quote(cwd)} && exec {shlex.join(argv)}\n"),
            ("keep", "".join(f"{path}\n" for path in temporary if os.path.isdir(path))),
        ):
            with open(os.path.join(directory, name), "x") as file:
                file.write(text)
        return directory

    def _variables(self) -> list[tuple[str, str]]:
        disks = " ".join(f"/dev/{_disk_name(number)}" for number in range(len(self._disks)))
        variables = base_environment() | {"THINPOOL_TEST_KERNEL": "guest", "THINPOOL_TEST_DISKS": disks}
        if not self._udev:
            variables["DM_DISABLE_UDEV"] = "1"
        return list((variables | self._environment).items())

    def _kernel(self) -> list[str]:
        """Return the kernel's own arguments, those of one boot aside."""
        return [
            f"mem={self._memory}M",
            *(f"{_disk_name(number)}={disk}" for number, disk in enumerate(self._disks)),
            *([f"vec0:transport=tap,ifname={self._link.tap},depth=128,gro=1"] if self._link else []),
            f"guest_udev={int(self._udev)}",
            *([f"guest_share={self._share}"] if self._share else []),
        ]


def _disk_name(number: int) -> str:
    return f"ubd{chr(ord('a') + number)}"


def base_environment() -> dict[str, str]:
    """Return the environment that a test command gets, in a guest or on a host."""
    directories = [
        os.path.join(ROOT, ".venv", "bin"),
        *("/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"),
    ]
    environment = {
        "PATH": ":".join(directories),
        "HOME": "/root",
        "LC_ALL": "C.UTF-8",
        "TERM": "dumb",
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONUNBUFFERED": "1",
        "COLUMNS": str(shutil.get_terminal_size((120, 24)).columns),
        "XDG_CACHE_HOME": os.path.dirname(cache_directory()),
    }
    if not sys.stdout.isatty():
        environment["NO_COLOR"] = "1"
    return environment


def cache_directory() -> str:
    """Return where tools built for the tests are kept, outside the checkout."""
    home = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return os.path.join(home, "thinpool-csi")


def require() -> None:
    """Raise MissingError if this machine cannot run a guest."""
    path = os.environ.get("PATH", os.defpath) + ":/usr/sbin:/sbin"
    wanted = (KERNEL, "modprobe", "lvm", "setpriv", "prlimit", "taskset", *(["cc"] if xstate.needed() else []))
    missing = [name for name in wanted if shutil.which(name, path=path) is None]
    if missing:
        message = f"a guest needs {', '.join(missing)}: apt-get install {PACKAGES} {xstate.PACKAGES}"
        raise MissingError(message)
