"""Sparse files behind loop devices: the disks of a loop-lvm pool.

For a first try and for development, as Docker said of its own loop mode: every write goes through two file systems.
"""

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from csi import process
from csi.errors import BusyError, CommandError, KernelError
from csi.settings import LoopSize
from csi.units import Bytes

_DEADLINE: Final = 30.0


@dataclass(frozen=True)
class LoopFile:
    """A sparse file and the loop device on it."""

    file: Path
    device: str
    """``/dev/loop3``."""


@dataclass(frozen=True)
class LoopPair:
    """The two files of a pool: one for data, one for metadata and the catalog."""

    data: LoopFile
    metadata: LoopFile

    @classmethod
    def attach(cls, directory: Path, *, path: str | None = None) -> Self | None:
        """Attach the files under ``directory`` to loop devices, unless they are; None if they were never made.

        Direct I/O is used where the file system allows it: else each page would be cached twice. Raise CommandError;
        BusyError if another process is just doing the same.
        """
        files = _files(directory)
        if not all(file.exists() for file in files):
            return None
        with _exclusive(directory):
            data, metadata = (LoopFile(file, _attach(file, path)) for file in files)
        return cls(data, metadata)

    @classmethod
    def make(cls, directory: Path, sizes: LoopSize, *, path: str | None = None) -> Self:
        """Make the sparse files, where they are missing or were cut short, and attach them. Raises as ``attach``."""
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        for file, size in zip(_files(directory), (sizes.data_size, sizes.metadata_size), strict=True):
            _make_sparse(file, size)
        pair = cls.attach(directory, path=path)
        if pair is None:
            raise KernelError("make loop files", str(directory), "they vanished at once")
        return pair

    @property
    def devices(self) -> tuple[str, str]:
        """Both loop devices, the data's first."""
        return self.data.device, self.metadata.device

    def detach(self, *, path: str | None = None) -> None:
        """Give the loop devices back; the kernel waits with one that is still open. Raise CommandError."""
        for loop in (self.data, self.metadata):
            # Asked for by file: since we looked, the device may have gone, and its number to another file.
            if loop.device in _attached(loop.file, path):
                _losetup("--detach", loop.device, path=path)

    def remove(self, *, path: str | None = None) -> None:
        """Give the loop devices back and remove the files. Raise CommandError, KernelError."""
        self.detach(path=path)
        for loop in (self.data, self.metadata):
            try:
                loop.file.unlink(missing_ok=True)
            except OSError as error:
                raise KernelError("remove", str(loop.file), "cannot be removed", errno=error.errno or 0) from error


def _files(directory: Path) -> tuple[Path, Path]:
    return directory / "data", directory / "metadata"


def _make_sparse(file: Path, size: Bytes) -> None:
    try:
        descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            if os.fstat(descriptor).st_size < size:
                os.ftruncate(descriptor, size)
                os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise KernelError("make sparse file", str(file), "cannot be made", errno=error.errno or 0) from error


@contextmanager
def _exclusive(directory: Path) -> Iterator[None]:
    """Keep two processes from attaching one file twice: LVM would see every PV doubled and change nothing any more."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError:
        raise BusyError("attach loop files", str(directory), "another process is at it") from None
    finally:
        os.close(descriptor)


def _attach(file: Path, path: str | None) -> str:
    attached = _attached(file, path)
    if attached:
        return attached[0]
    device = _losetup("--find", "--show", str(file), path=path).strip()
    if not device.startswith("/dev/"):
        raise CommandError("attach", str(file), f"losetup answered {device!r}")
    # Refused by file systems without O_DIRECT (tmpfs): then it stays buffered.
    _losetup("--direct-io=on", device, path=path, ok=(0, 1))
    return device


def _attached(file: Path, path: str | None) -> list[str]:
    """Return the loop devices on ``file``, compared by device and inode number (losetup(8), --associated)."""
    text = _losetup("--json", "--list", "--output", "NAME", "--associated", str(file), path=path)
    try:
        rows = json.loads(text)["loopdevices"] if text.strip() else []
        return [str(row["name"]) for row in rows]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise CommandError("read output of", "losetup", f"not its JSON: {error!r}") from error


def _losetup(*args: str, path: str | None, ok: tuple[int, ...] = (0,)) -> str:
    env = {"PATH": path} if path else {}
    return process.run(["losetup", *args], deadline=_DEADLINE, env=env, ok=ok).stdout
