"""Places below a root of their own, and everything that is mounted there taken away afterwards."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from csi.fs import mountinfo, syscalls
from csi.fs.paths import Root


@pytest.fixture
def root(tmp_path: Path) -> Iterator[Root]:
    """Make a root with the directories a and b in it, and a directory outside of it."""
    for name in ("root/a", "root/b", "outside"):
        os.makedirs(tmp_path / name)
    with contextlib.ExitStack() as stack:
        stack.callback(_unmount_all, str(tmp_path))
        yield Root(str(tmp_path / "root"))


def _unmount_all(below: str) -> None:
    for mount in reversed(mountinfo.mounts()):
        if mount.mount_point.startswith(f"{below}/"):
            syscalls.umount(mount.mount_point, syscalls.MNT_DETACH)
