"""The names and tags by which a pool's VG and LVs are recognised."""

from typing import Final

from csi.model import PoolId

TAG_DRIVER: Final = "thinpool-csi.dev"
TAG_ID: Final = "thinpool-csi.id"
"""``thinpool-csi.id=<pool id>``."""
TAG_POOL: Final = "thinpool-csi.pool"
"""``thinpool-csi.pool=<the wanted pool's name>``."""
TAG_CREATING: Final = "thinpool-csi.creating"
"""On a VG until all its LVs are made: until then it never served anything, and they may be removed."""
TAG_FRESH: Final = "thinpool-csi.fresh"
"""On the catalog's LV until it holds a file system."""
TAG_DRAFT: Final = "thinpool-csi.draft"
"""On metadata that a repair writes, until it is whole: only what has it is ever removed."""

POOL: Final = "pool"
METADATA: Final = "pool_tmeta"
CATALOG: Final = "catalog"
OLD_METADATA: Final = "old-metadata-"
"""``old-metadata-<n>`` keeps what a repair replaced; nothing here uses it, and only a person removes it."""


def vg_name(pool_id: PoolId) -> str:
    """Return the name of a pool's VG."""
    return f"thinpool-{pool_id}"
