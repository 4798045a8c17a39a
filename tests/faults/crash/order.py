"""Files that are written one after the other, each synced, so that a copy of all shows whether it is of one moment."""

import contextlib
import os
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

_FIRST: Final = 60.0


@contextlib.contextmanager
def written_in_order(files: Sequence[Path]) -> Iterator[None]:
    """Write the same number, which grows, to each of ``files`` in their order, for the body and once before."""
    ending, first = threading.Event(), threading.Event()
    trouble: list[BaseException] = []

    def write() -> None:
        try:
            with contextlib.ExitStack() as stack:
                opened = [_opened(stack, file) for file in files]
                # Of a fixed length, and larger than whatever an earlier writer wrote.
                number = time.time_ns()
                while not ending.is_set():
                    number += 1
                    for descriptor in opened:
                        os.pwrite(descriptor, f"{number:020}".encode(), 0)
                        os.fdatasync(descriptor)
                    first.set()
        except BaseException as error:  # noqa: BLE001 - raised below
            trouble.append(error)
            first.set()

    thread = threading.Thread(target=write)
    if files:
        thread.start()
        assert first.wait(_FIRST), f"{files} cannot be written"
    try:
        yield
    finally:
        ending.set()
        if files:
            thread.join()
    if trouble:
        raise trouble[0]


def _opened(stack: contextlib.ExitStack, file: Path) -> int:
    descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    stack.callback(os.close, descriptor)
    directory = os.open(file.parent, os.O_RDONLY)
    os.fsync(directory)
    os.close(directory)
    return descriptor
