"""What is mounted, as this process sees it (/proc/self/mountinfo; format in proc_pid_mountinfo(5))."""

import os
import re
import stat
from dataclasses import dataclass
from typing import Final

from csi.errors import KernelError

_PATH: Final = "/proc/self/mountinfo"
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
    return _parsed(_read())


def of_device(device: str) -> list[Mount]:
    """Return the mounts of the file system on the block device ``device``, binds included. Raise KernelError."""
    return _of_device(device, _read())


def of_node(device: str) -> list[Mount]:
    """Return where the device node itself is bound: the published raw block volumes of ``device``.

    ``device`` is a node right below /dev, such as ``/dev/dm-3``; the bind shows as devtmpfs with root ``/dm-3``.
    Raise KernelError.
    """
    return _of_node(device, _read())


def users(device: str) -> list[Mount]:
    """Return both: the mounts of the file system on ``device``, and the binds of its node. Raise KernelError."""
    text = _read()
    return [*_of_device(device, text), *_of_node(device, text)]


def _of_device(device: str, text: str) -> list[Mount]:
    number = _number(device)
    if number is None:
        return []
    # A node has hundreds of mounts. Only those are read that may be it.
    may_be = (f" {number[0]}:{number[1]} ", " - btrfs ")
    lines = [line for line in text.split("\n") if may_be[0] in line or may_be[1] in line]
    return [mount for mount in _parsed("\n".join(lines)) if mount.is_of(device)]


def _of_node(device: str, text: str) -> list[Mount]:
    root = "/" + os.path.basename(device)
    lines = [line for line in text.split("\n") if " - devtmpfs " in line]
    return [mount for mount in _parsed("\n".join(lines)) if mount.fs_type == "devtmpfs" and mount.root == root]


def _read() -> str:
    try:
        with open(_PATH, encoding="utf-8", errors="surrogateescape", newline="\n") as file:
            return file.read()
    except OSError as error:
        raise KernelError("read", _PATH, "the mounts cannot be listed", errno=error.errno or 0) from error


def _parsed(text: str) -> tuple[Mount, ...]:
    try:
        return parse(text)
    except ValueError as error:
        raise KernelError("read", _PATH, str(error)) from error
