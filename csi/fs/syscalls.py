"""The system calls on mounts that Python's os module lacks. Each raises OSError with the kernel's errno.

They go through ctypes, which lets other threads run meanwhile: a mount may wait long for a slow or full disk.
Numbers are of include/uapi/linux/mount.h and include/linux/fs.h.
"""

import ctypes
import functools
import os
from typing import Final

MS_RDONLY: Final = 1 << 0
MS_NOSUID: Final = 1 << 1
MS_NODEV: Final = 1 << 2
MS_NOEXEC: Final = 1 << 3
MS_SYNCHRONOUS: Final = 1 << 4
MS_REMOUNT: Final = 1 << 5
MS_DIRSYNC: Final = 1 << 7
MS_NOATIME: Final = 1 << 10
MS_NODIRATIME: Final = 1 << 11
MS_BIND: Final = 1 << 12
MS_PRIVATE: Final = 1 << 18
MS_RELATIME: Final = 1 << 21
MS_STRICTATIME: Final = 1 << 24
MS_LAZYTIME: Final = 1 << 25

MNT_DETACH: Final = 1 << 1
UMOUNT_NOFOLLOW: Final = 1 << 3


@functools.cache
def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _check(result: int, path: str) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), path)


def mount(source: str, target: str, fs_type: str | None, flags: int, data: str | None = None) -> None:
    """Make a mount; for a bind, ``fs_type`` and ``data`` are None."""
    arguments = [ctypes.c_char_p(os.fsencode(text)) for text in (source, target)]
    kind = ctypes.c_char_p(os.fsencode(fs_type)) if fs_type is not None else None
    options = ctypes.c_char_p(os.fsencode(data)) if data else None
    _check(_libc().mount(*arguments, kind, ctypes.c_ulong(flags), options), target)


def umount(target: str, flags: int) -> None:
    """Take a mount away, by umount2(2)."""
    _check(_libc().umount2(ctypes.c_char_p(os.fsencode(target)), ctypes.c_int(flags)), target)


def syncfs(descriptor: int) -> None:
    """Write out the file system that ``descriptor`` lies on."""
    _check(_libc().syncfs(ctypes.c_int(descriptor)), f"descriptor {descriptor}")
