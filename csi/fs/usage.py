"""How full a mounted file system is."""

import os
from dataclasses import dataclass

from csi.errors import KernelError
from csi.fs.paths import Place
from csi.units import Bytes


@dataclass(frozen=True)
class Usage:
    """Space and inodes, as df(1) counts them; inodes are 0 for a file system that has no fixed number (btrfs)."""

    total: Bytes
    used: Bytes
    available: Bytes
    """To an ordinary user: without what is kept for root."""
    inodes: int
    inodes_used: int
    inodes_free: int


def usage(place: Place) -> Usage:
    """Return the usage of the file system mounted on ``place`` (statvfs(3)). Raise KernelError."""
    try:
        found = os.fstatvfs(place.fd)
    except OSError as error:
        raise KernelError("measure", place.path, "the file system does not answer", errno=error.errno or 0) from error
    unit = found.f_frsize
    return Usage(
        total=Bytes(found.f_blocks * unit),
        used=Bytes((found.f_blocks - found.f_bfree) * unit),
        available=Bytes(found.f_bavail * unit),
        inodes=found.f_files,
        inodes_used=found.f_files - found.f_ffree,
        inodes_free=found.f_favail,
    )
