"""What the tests of space share: nodes on pools of their own, and a blank disk more."""

import os
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Final

import pytest

from csi.dm.freezer import Freezer
from csi.settings import PoolSpec
from csi.units import MIB
from tests.kernel.conftest import run
from tests.kernel.volumes.conftest import _finish, make_module_served, make_served, shared_freezer
from tests.kernel.volumes.served import Served, loop_disk

__all__ = ["by_default", "make_module_served", "make_served", "shared_freezer", "spare_disk"]

DISK: Final = 2500 * MIB
"""As small as a disk may be with anything left to extend into."""


@pytest.fixture
def spare_disk(tmp_path: Path) -> Iterator[str]:
    """Return a blank disk, which goes after the pools of ``make_served`` if it is named before."""
    with loop_disk(tmp_path / "spare", 256 * MIB) as disk:
        yield disk


@pytest.fixture
def by_default(tmp_path: Path, shared_freezer: Freezer) -> Iterator[Served]:
    """Serve a pool of Docker's defaults, but for larger blocks, on one of the guest's disks: it is written full."""
    whole = os.environ["THINPOOL_TEST_DISKS"].split()[0]
    disk = run("losetup", "--find", "--show", "--sizelimit", str(DISK), whole).strip()
    with ExitStack() as stack:
        stack.callback(run, "losetup", "--detach", disk)
        stack.callback(run, "wipefs", "--all", "--quiet", disk)
        served = Served(tmp_path / "served", PoolSpec("default", devices=(disk,), block_size=MIB), shared_freezer)
        served.base.mkdir()
        served.open()
        stack.callback(_finish, served, served.pool.id)
        yield served
