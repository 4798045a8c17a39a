"""Which pools are missed on a node, and which may hold what is in none that is open."""

from types import SimpleNamespace
from typing import TYPE_CHECKING, cast

import pytest

from csi.errors import DriverError, InvalidRequestError, NoDevicesError, NotFoundError, UnavailableError
from csi.settings import PoolSpec
from csi.volumes.node import Node
from csi.volumes.pools import Pools

if TYPE_CHECKING:
    from csi.volumes.opening import Place

_PLACE = cast("Place", SimpleNamespace(node_name="n", control=None))
_INLINE = f"csi-{0:064x}"
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


@pytest.mark.parametrize(
    ("known", "error"),
    [
        ("", None),
        ("", UnavailableError("open pool", "new", "its disk is slow")),
        ("aaaaaaaaaa", NoDevicesError("open pool", "new", "none is there")),
    ],
    ids=["not opened yet", "not open", "its disks are gone"],
)
def test_an_inline_volume_may_be_in_a_pool_that_is_not_open(known: str, error: DriverError | None) -> None:
    node = Node(_PLACE, [])
    node.wanted.want([NEW], {"new": known})
    node.wanted.closed = {"new": error} if error else {}
    with pytest.raises(UnavailableError, match="pool new is not open"):
        node.unpublish(_INLINE, "/target")


def test_an_inline_volume_is_gone_where_no_pool_can_hold_it() -> None:
    node = Node(_PLACE, [])
    node.wanted.want([NEW], {"new": ""})
    node.wanted.closed = {"new": NoDevicesError("open pool", "new", "none is there")}
    node.unpublish(_INLINE, "/target")
    with pytest.raises(NotFoundError):
        node.unpublish("somebody's", "/target")


def test_before_it_is_known_what_is_wanted_nothing_is_denied() -> None:
    """The kubelet would take a final answer for it: there is no such pool, the volume is gone."""
    node = Node(_PLACE, [])
    with pytest.raises(UnavailableError, match="not known yet"):
        node.unpublish(_INLINE, "/target")
    for name in ("new", None):
        with pytest.raises(UnavailableError, match="not known yet"):
            node.wanted.named("create volume", name, "v")


def test_a_pool_that_is_wanted_and_not_open_yet_is_not_taken_for_a_wrong_name() -> None:
    pools = Pools(cast("Place", None), [NEW])
    with pytest.raises(UnavailableError, match="pool new is not open: not yet"):
        pools.named("create volume", "new", "v")
    with pytest.raises(InvalidRequestError, match="there is no pool 'old'"):
        pools.named("create volume", "old", "v")
