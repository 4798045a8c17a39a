"""A tree outside the kubelet's directory that nothing may touch, and the mounts outside it."""

import hashlib
import os
import stat
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

_MOUNTINFO: Final = Path("/proc/self/mountinfo")

Entry = tuple[str, int, int, int, int, int, str]


class Canary:
    """Files, directories, links, a socket's and a device's node, and a mount, with all that can be told of them."""

    def __init__(self, directory: Path, kubelet: Path) -> None:
        self.directory = directory
        self._kubelet = f"{kubelet}/"
        self._before = self._now()

    def check(self) -> None:
        """See that everything is what it was."""
        now = self._now()
        assert now == self._before, f"changed outside the kubelet's directory: {set(now) ^ set(self._before)}"

    def _now(self) -> list[Entry | str]:
        found: list[Entry | str] = [*map(_entry, sorted([self.directory, *self.directory.rglob("*")]))]
        return found + outside(self._kubelet)


def outside(kubelet: str) -> list[str]:
    """Return the lines of the mount table that are not about what is below a directory."""
    lines = _MOUNTINFO.read_bytes().decode(errors="surrogateescape").split("\n")
    return [line for line in lines if line and not line.split(" ")[4].startswith(kubelet)]


@contextmanager
def canary(directory: Path, kubelet: Path) -> Iterator[Canary]:
    """Make such a tree, and see at the end that it is what it was."""
    for name in ("full/deep", "empty", "mounted"):
        (directory / name).mkdir(parents=True)
    mounted = directory / "mounted"
    subprocess.run(["mount", "-t", "tmpfs", "canary", str(mounted)], check=True, timeout=30)
    try:
        for number, each in enumerate((directory, directory / "full", directory / "full/deep", mounted)):
            (each / "file").write_text(f"canary {number}\n")
            (each / "nothing").touch(mode=0o400)
            (each / "link").symlink_to("file")
        os.mkfifo(directory / "fifo")
        os.mknod(directory / "null", 0o600 | stat.S_IFCHR, os.makedev(1, 3))
        made = Canary(directory, kubelet)
        yield made
        made.check()
    finally:
        subprocess.run(["umount", str(mounted)], check=True, timeout=30)


def traps(kubelet: Path, elsewhere: Path) -> None:
    """Lay in the kubelet's directory what a path from a request should not be: links out, and what is no directory."""
    kubelet.mkdir(exist_ok=True)
    links = {"out": elsewhere, "out-full": elsewhere / "full", "loop": kubelet / "loop"}
    for name, target in links.items():
        _anew(kubelet / name).symlink_to(target)
    _anew(kubelet / "file").write_text("content")
    _anew(kubelet / "nothing").touch()
    os.mkfifo(_anew(kubelet / "fifo"))
    os.mknod(_anew(kubelet / "socket"), 0o600 | stat.S_IFSOCK)
    os.mknod(_anew(kubelet / "null"), 0o600 | stat.S_IFCHR, os.makedev(1, 3))


def trap_paths(kubelet: Path, elsewhere: Path) -> list[str]:
    """Return the traps, and places outside."""
    below = ("", "out", "out/full", "out-full/deep", "loop", "file", "nothing", "fifo", "socket", "null", "missing")
    beyond = ("", "empty", "mounted", "full/deep/nothing", "fifo")
    return [
        *(str(kubelet / each) for each in below),
        *(str(elsewhere / each) for each in beyond),
        f"{kubelet}/../{elsewhere.name}",
        f"{kubelet}x",
        f"/..{elsewhere}",
        "/proc/self/cwd",
        "relative/path",
    ]


def _anew(path: Path) -> Path:
    if os.path.lexists(path) and not path.is_mount():
        path.unlink()
    return path


def _entry(path: Path) -> Entry:
    found = path.lstat()
    if stat.S_ISLNK(found.st_mode):
        content = os.readlink(path)
    elif stat.S_ISREG(found.st_mode):
        content = hashlib.sha256(path.read_bytes()).hexdigest()
    else:
        content = ""
    return str(path), found.st_mode, found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_rdev, content
