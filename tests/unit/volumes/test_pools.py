"""Which pools are missed on a node."""

from typing import TYPE_CHECKING, cast

from csi.settings import PoolSpec
from csi.volumes.pools import Pools

if TYPE_CHECKING:
    from csi.volumes.opening import Place

FAST, NEW = (PoolSpec(name, devices=("/dev/sdb",)) for name in ("fast", "new"))


def test_missed_is_what_is_wanted_was_made_and_is_not_open() -> None:
    pools = Pools(cast("Place", None), [])
    pools.want([FAST, NEW], {"fast": "aaaaaaaaaa", "new": ""})
    assert pools.missing() == ["fast"]


def test_one_that_was_given_up_is_missed_no_more() -> None:
    """Its id is still told of, and the lists of its node's other pools are whole without it."""
    pools = Pools(cast("Place", None), [])
    pools.want([NEW], {"lost": "aaaaaaaaaa", "new": ""})
    assert pools.missing() == []
