"""What is mounted, as this process sees it (/proc/self/mountinfo; format in proc_pid_mountinfo(5))."""

import os
import re
import stat
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from csi.errors import KernelError

_OCTAL: Final = re.compile(r"\\([0-7]{3})")


@dataclass(frozen=True)
class Mount:
    """One mount."""

    id: int
    parent: int
    device: tuple[int, int]
    """Major and minor as st_dev shows them; for btrfs an anonymous number that no block device has."""
    root: str
    """What of the file system is mounted: ``/``, the directory of a bind, or ``/dm-3`` for a node of devtmpfs."""
    mount_point: str
    options: tuple[str, ...]
    """Of this mount alone: ro or rw, nosuid, nodev, noexec, the kind of atime."""
    fs_type: str
    source: str
    super_options: tuple[str, ...]
    """Of the file system: the same for all its mounts."""

    @property
    def read_only(self) -> bool:
        """Whether writing is refused by this mount or by its file system."""
        return "ro" in self.options or "ro" in self.super_options

    def is_of(self, device: str) -> bool:
        """Tell whether the file system lies on the block device with this path.

        btrfs shows an anonymous device number, so there the source decides (fs/btrfs/super.c, ``show_devname``).
        """
        number = _number(device)
        if number is None:
            return False
        return self.device == number or (self.fs_type == "btrfs" and _number(self.source) == number)


def _number(path: str) -> tuple[int, int] | None:
    """Return the number of the block device at ``path``; None if there is none."""
    try:
        status = os.stat(path)
    except OSError:
        return None
    if not stat.S_ISBLK(status.st_mode):
        return None
    return os.major(status.st_rdev), os.minor(status.st_rdev)


def unescape(text: str) -> str:
    r"""Undo the kernel's octal escapes: ``\040`` for a blank, tab, line feed and backslash likewise."""
    return _OCTAL.sub(lambda match: chr(int(match[1], 8)), text)


def parse_line(line: str) -> Mount:
    """Read one line. Raise ValueError, which names it, if it has not the documented form."""
    fields = line.split(" ")
    try:
        # Between the sixth field and the separator stand any number of optional fields (shared:1 master:2 …).
        end = fields.index("-", 6)
        major, _, minor = fields[2].partition(":")
        fs_type, source, super_options = fields[end + 1 : end + 4]
        return Mount(
            id=int(fields[0]),
            parent=int(fields[1]),
            device=(int(major), int(minor)),
            root=unescape(fields[3]),
            mount_point=unescape(fields[4]),
            options=tuple(fields[5].split(",")),
            fs_type=unescape(fs_type),
            source=unescape(source),
            super_options=tuple(unescape(super_options).split(",")),
        )
    except (ValueError, IndexError) as error:
        message = f"not a line of mountinfo: {line!r}"
        raise ValueError(message) from error


def parse(text: str) -> tuple[Mount, ...]:
    """Read the whole file, in the kernel's order: a later mount on the same point covers an earlier one."""
    # Not splitlines: of what that takes for a line's end, the kernel escapes only the line feed.
    return tuple(parse_line(line) for line in text.split("\n") if line)


def mounts() -> tuple[Mount, ...]:
    """Return all mounts of this process's namespace. Raise KernelError if they cannot be read."""
    path = "/proc/self/mountinfo"
    try:
        with open(path, encoding="utf-8", errors="surrogateescape", newline="\n") as file:
            return parse(file.read())
    except OSError as error:
        raise KernelError("read", path, "the mounts cannot be listed", errno=error.errno or 0) from error
    except ValueError as error:
        raise KernelError("read", path, str(error)) from error


def of_device(device: str, among: Iterable[Mount] | None = None) -> list[Mount]:
    """Return the mounts of the file system on the block device ``device``, binds included."""
    return [mount for mount in (mounts() if among is None else among) if mount.is_of(device)]


def of_node(device: str, among: Iterable[Mount] | None = None) -> list[Mount]:
    """Return where the device node itself is bound: the published raw block volumes of ``device``.

    ``device`` is a node right below /dev, such as ``/dev/dm-3``; the bind shows as devtmpfs with root ``/dm-3``.
    """
    root = "/" + os.path.basename(device)
    listed = mounts() if among is None else among
    return [mount for mount in listed if mount.fs_type == "devtmpfs" and mount.root == root]
