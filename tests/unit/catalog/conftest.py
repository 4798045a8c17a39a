"""What the tests of the catalog share: a catalog on disk and the drafts of devices."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from csi.catalog.store import Catalog
from csi.units import KIB, Bytes
from tests.unit.catalog.drafts import POOL


@pytest.fixture
def catalog(tmp_path: Path) -> Iterator[Catalog]:
    """Make a catalog in ``tmp_path``."""
    made = Catalog.create(tmp_path, POOL, Bytes(64 * KIB), 1)
    yield made
    made.close()
