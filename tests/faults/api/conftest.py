"""The fixtures of the tests of volumes, and a stand-in for the cluster's API."""

from tests.kernel.volumes.conftest import make_served, shared_freezer
from tests.unit.conftest import api, fake_api

__all__ = ["api", "fake_api", "make_served", "shared_freezer"]
