"""Lists of a node, whole and in parts."""

from types import SimpleNamespace
from typing import TYPE_CHECKING, cast

import pytest

from csi.catalog import store
from csi.catalog.store import Catalog
from csi.model import Handle, Kind, PoolId, ThinId
from csi.units import KIB, Bytes
from csi.volumes.node import Node
from tests.unit.catalog.drafts import made, snapshot, volume

if TYPE_CHECKING:
    from csi.volumes.opening import Place
    from csi.volumes.pool import Pool

# Not in the order of their ids.
POOLS = (PoolId("cccccccccc"), PoolId("aaaaaaaaaa"), PoolId("bbbbbbbbbb"))


@pytest.fixture
def node(monkeypatch: pytest.MonkeyPatch) -> Node:
    """Make a node of three pools, the one in the middle with nothing to list."""
    monkeypatch.setattr(store, "_READ", 2)
    node = Node(cast("Place", SimpleNamespace(node_name="n", control=None)), [])
    for pool_id in POOLS:
        catalog = Catalog.create(None, pool_id, Bytes(64 * KIB), 1)
        if pool_id != POOLS[2]:
            for number in range(5):
                made(catalog, f"v{number}")
        # None of these is listed as a volume.
        catalog.add([volume("inline", ephemeral=True), volume("begun")], covered=0)
        (cut,), _ = catalog.add([snapshot(ThinId(1))], covered=0)
        catalog.ready([cut])
        catalog.delete([made(catalog, "gone")])
        pool = SimpleNamespace(id=pool_id, catalog=catalog, require_answering=lambda *_: None)
        node.wanted.open[pool_id] = cast("Pool", pool)
    return node


def test_a_list_is_in_the_order_of_the_handles(node: Node) -> None:
    found = [device.handle for device in node.volumes()]
    assert found == sorted(found)
    assert len(found) == 10
    assert [device.kind for device in node.snapshots()] == [Kind.SNAPSHOT] * 3


@pytest.mark.parametrize("most", [1, 2, 3, 5, 7, 10, 11])
def test_parts_make_up_the_whole(node: Node, most: int) -> None:
    found: list[Handle] = []
    while part := node.volumes(found[-1] if found else None, most):
        assert len(part) <= most
        found += [device.handle for device in part]
    assert found == [device.handle for device in node.volumes()]


def test_a_part_begins_above_a_handle_that_is_gone(node: Node) -> None:
    volumes = node.volumes()
    gone = volumes[3]
    node.pools[gone.handle.pool].catalog.delete([gone])
    assert node.volumes(gone.handle, 2) == volumes[4:6]
