"""The fixtures of the tests of volumes: a node on a pool of its own."""

from tests.kernel.volumes.conftest import make_served, shared_freezer

__all__ = ["make_served", "shared_freezer"]
