"""Real data for the demo: a tree of files with random content, and writers that go on while something happens."""

import hashlib
import itertools
import os
import shutil
import struct
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, Self

from csi.cli.account import DemoError
from csi.units import KIB, MIB

_DIRECTORIES: Final = 8
_SIZES: Final = (1, 4 * KIB, 20 * KIB + 7, 100 * KIB, 500 * KIB, 3 * MIB // 2, 6 * MIB)
SIZE: Final = _DIRECTORIES * sum(_SIZES)
"""Bytes in a tree: about 65 MiB."""

_JOIN: Final = 30.0
# Between two writes: a step that takes long must not fill the pool.
_PAUSE: Final = 0.01
_NUMBER: Final = struct.Struct("<Q")


def write_tree(root: Path) -> dict[str, str]:
    """Write a tree of files below ``root``, each synced, and return their checksums by path."""
    sums = {}
    for directory in range(_DIRECTORIES):
        place = root / f"part{directory}"
        place.mkdir(parents=True)
        for number, size in enumerate(_SIZES):
            content = os.urandom(size)
            file = place / f"file{number}"
            _write(file, content)
            sums[str(file.relative_to(root))] = hashlib.sha256(content).hexdigest()
        _sync(place)
    _sync(root)
    return sums


def checksums(root: Path) -> dict[str, str]:
    """Return the checksum of every file below ``root`` by its path."""
    sums = {}
    for file in sorted(root.rglob("*")):
        if file.is_file():
            with file.open("rb") as opened:
                sums[str(file.relative_to(root))] = hashlib.file_digest(opened, "sha256").hexdigest()
    return sums


def damage(root: Path) -> None:
    """Do what people and programs do: delete a directory, cut files short, overwrite others."""
    shutil.rmtree(root / "part0")
    for number, file in enumerate(sorted(file for file in root.rglob("*") if file.is_file())):
        size = file.stat().st_size
        if number % 3 == 0:
            os.truncate(file, size // 2)
        elif number % 3 == 1:
            _write(file, b"\xff" * size)
    _sync(root)


class Writer:
    """A thread that calls ``write`` with 1, 2, 3 … from ``with`` to its end."""

    def __init__(self, write: Callable[[int], None]) -> None:
        self._write = write
        self.count = 0
        """How many calls have returned."""
        self.longest = 0.0
        """The seconds that the longest took."""
        self._ending = threading.Event()
        self._error: OSError | None = None
        self._thread = threading.Thread(target=self._run, name="demo writer", daemon=True)

    def __enter__(self) -> Self:
        """Begin to write."""
        self._thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        """Let the writing end."""
        self._ending.set()
        self._thread.join(_JOIN)

    def stop(self) -> None:
        """End writing. Raise DemoError if a write failed, or does not end."""
        self._ending.set()
        self._thread.join(_JOIN)
        if self._thread.is_alive():
            message = f"a write did not end within {_JOIN:g} s"
            raise DemoError(message)
        if self._error is not None:
            message = f"a write failed: {self._error}"
            raise DemoError(message)

    def go_on(self, more: int) -> None:
        """Wait until ``more`` further calls have returned. Raise DemoError if that takes too long."""
        goal = self.count + more
        deadline = time.monotonic() + _JOIN
        while self.count < goal:
            if time.monotonic() > deadline or not self._thread.is_alive():
                message = f"the writer stands still after {self.count} writes ({self._error or 'with no error'})"
                raise DemoError(message)
            time.sleep(_PAUSE)

    def _run(self) -> None:
        try:
            while not self._ending.wait(_PAUSE):
                begun = time.monotonic()
                self._write(self.count + 1)
                self.longest = max(self.longest, time.monotonic() - begun)
                self.count += 1
        except OSError as error:
            self._error = error


class Appending:
    """Appends random blocks of 64 KiB to a file, each synced, and knows the checksum of all of them."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._sum = hashlib.sha256()

    def __call__(self, _number: int) -> None:
        """Append a block."""
        content = os.urandom(64 * KIB)
        with self._file.open("ab") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        self._sum.update(content)

    def intact(self) -> bool:
        """Tell whether the file holds what was written."""
        with self._file.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest() == self._sum.hexdigest()


def write_in_turn(files: Sequence[Path]) -> Callable[[int], None]:
    """Return what writes a number into each of the files, one after the other, each synced before the next."""

    def write(number: int) -> None:
        for file in files:
            _write(file, _NUMBER.pack(number), fresh=False)

    write(0)
    return write


def numbers(files: Sequence[Path]) -> list[int]:
    """Return what ``write_in_turn`` left in each file."""
    return [_NUMBER.unpack(file.read_bytes())[0] for file in files]


def in_order(found: Sequence[int]) -> bool:
    """Tell whether no number came into a later file before it was in all earlier ones, nor a next one into any."""
    return all(earlier >= later for earlier, later in itertools.pairwise(found)) and found[0] - found[-1] <= 1


def _write(file: Path, content: bytes, *, fresh: bool = True) -> None:
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | (os.O_TRUNC if fresh else 0), 0o600)
    try:
        view = memoryview(content)
        while view:
            view = view[os.write(descriptor, view) :]
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _sync(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
