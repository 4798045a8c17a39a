"""The node's figures in Prometheus' terms: of its pools as they are when somebody asks, and of every call."""

import functools
from collections.abc import Iterable
from typing import Final

from prometheus_client import CollectorRegistry, Gauge, Histogram
from prometheus_client.core import GaugeMetricFamily, InfoMetricFamily, Metric
from prometheus_client.registry import Collector

from csi import __version__
from csi.volumes.node import Node
from csi.volumes.reports import PoolReport

_PREFIX: Final = "thinpool_csi"
_BUCKETS: Final = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60)

_GAUGES: Final = {
    "data_size_bytes": ("Size of the pool's data.", "data_total"),
    "data_used_bytes": ("Data that volumes, snapshots and ballast map.", "data_used"),
    "metadata_size_bytes": ("Size of the pool's metadata.", "metadata_total"),
    "metadata_used_bytes": ("Metadata in use.", "metadata_used"),
    "extendable_bytes": ("What the volume group still has for the data to be extended into.", "extendable"),
    "min_free_bytes": ("Below this much free space no volume or snapshot is made.", "min_free"),
    "virtual_bytes": ("Sizes of all volumes together.", "virtual_total"),
    "volumes": ("Volumes.", "volumes"),
    "snapshots": ("Snapshots.", "snapshots"),
    "templates": ("Fresh file systems that new volumes begin as.", "templates"),
    "deferred_deletions": ("Deleted devices whose space is not given back yet.", "deferred_deletions"),
    "quarantined_devices": ("Devices that the catalog does not know.", "quarantined"),
}


ORPHANS: Final = f"{_PREFIX}_orphans"


def orphans_gauge(registry: CollectorRegistry) -> Gauge:
    """Return the gauge of what no object of the cluster names, which only the controller that leads sets."""
    says = "Volumes and snapshots that no object of the cluster names; told by the controller that leads."
    return Gauge(ORPHANS, says, ("pool", "node"), registry=registry)


class Calls:
    """Counts calls and their durations, by method and code."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._durations = Histogram(
            f"{_PREFIX}_operation_duration_seconds",
            "How long a call took, by method and gRPC code.",
            ("method", "code"),
            buckets=_BUCKETS,
            registry=registry,
        )
        self._of = functools.cache(self._durations.labels)

    def observe(self, method: str, code: str, seconds: float) -> None:
        """Take a call into account."""
        self._of(method, code).observe(seconds)


class PoolCollector(Collector):
    """Asks the node for its pools at each scrape."""

    def __init__(self, node: Node) -> None:
        self._node = node

    def describe(self) -> Iterable[Metric]:
        """Return nothing: what there is depends on the pools."""
        return []

    def collect(self) -> Iterable[Metric]:
        """Yield the figures of all pools."""
        report = self._node.report()
        yield InfoMetricFamily(f"{_PREFIX}_build", "The driver.", {"version": __version__})
        for name, (says, field) in _GAUGES.items():
            family = GaugeMetricFamily(f"{_PREFIX}_pool_{name}", says, labels=("pool",))
            for pool in report.pools:
                if pool.pool_id is not None:
                    family.add_metric((pool.pool,), getattr(pool, field))
            yield family
        yield self._open(report.pools)
        yield self._conditions(report.pools)
        yield from self._volumes()

    def _open(self, pools: Iterable[PoolReport]) -> Metric:
        family = GaugeMetricFamily(f"{_PREFIX}_pool_open", "Whether the pool is served.", labels=("pool",))
        for pool in pools:
            family.add_metric((pool.pool,), pool.pool_id is not None)
        return family

    def _conditions(self, pools: Iterable[PoolReport]) -> Metric:
        says = "1 for each condition that holds (see the ThinPoolNode for what it means)."
        family = GaugeMetricFamily(f"{_PREFIX}_pool_condition", says, labels=("pool", "reason", "severity"))
        for pool in pools:
            for condition in {(each.reason, each.severity.value) for each in pool.conditions}:
                family.add_metric((pool.pool, *condition), 1)
        return family

    def _volumes(self) -> Iterable[Metric]:
        labels = ("pool", "volume")
        sizes = GaugeMetricFamily(f"{_PREFIX}_volume_size_bytes", "Size of a volume, by its handle.", labels=labels)
        says = "What a volume in use maps in its pool, shared blocks too."
        mapped = GaugeMetricFamily(f"{_PREFIX}_volume_mapped_bytes", says, labels=labels)
        for each in self._node.in_use():
            named = (each.pool, str(each.device.handle))
            sizes.add_metric(named, each.device.size)
            if each.mapped is not None:
                mapped.add_metric(named, each.mapped)
        yield sizes
        yield mapped
