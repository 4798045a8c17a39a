"""What a scrape shows of a node's pools and volumes."""

from typing import TYPE_CHECKING, cast

from prometheus_client import CollectorRegistry

from csi.agent.metrics import PoolCollector
from tests.unit.rpc.fake import FakeNode

if TYPE_CHECKING:
    from csi.volumes.node import Node


def test_all_volumes_have_a_size_and_those_in_use_say_what_they_map() -> None:
    node = FakeNode()
    registry = CollectorRegistry()
    registry.register(PoolCollector(cast("Node", node)))
    first, *rest = node.volumes()
    assert rest

    def value(name: str, handle: object) -> float | None:
        labels = {"pool": "fast", "volume": str(handle)}
        return registry.get_sample_value(f"thinpool_csi_volume_{name}_bytes", labels)

    assert [value("size", each.handle) for each in (first, *rest)] == [each.size for each in (first, *rest)]
    assert value("mapped", first.handle) == 65536
    assert [value("mapped", each.handle) for each in rest] == [None] * len(rest)


def test_each_pool_says_whether_it_is_open_and_how_full_it_is() -> None:
    node = FakeNode()
    registry = CollectorRegistry()
    registry.register(PoolCollector(cast("Node", node)))
    (pool,) = node.report().pools
    assert registry.get_sample_value("thinpool_csi_pool_open", {"pool": pool.pool}) == 1
    assert registry.get_sample_value("thinpool_csi_pool_data_used_bytes", {"pool": pool.pool}) == pool.data_used
