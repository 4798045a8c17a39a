"""Small files that are whole whatever happens: the one that was there, or the new one, on the disk."""

import os
from pathlib import Path

from csi.errors import KernelError


def write(file: Path, text: str) -> None:
    """Replace ``file`` by one that holds ``text``, in a directory that only root sees. Raise KernelError."""
    draft = file.with_suffix(".new")
    try:
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with draft.open("w") as stream:
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())
        draft.replace(file)
        _sync(file.parent)
    except OSError as error:
        raise KernelError("write", str(file), "cannot be written", errno=error.errno or 0) from error


def _sync(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
