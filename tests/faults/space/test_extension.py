"""A pool that is extended under its writers, and one made with Docker's defaults, which has little to extend into."""

from dataclasses import replace
from itertools import pairwise

import pytest
from structlog.testing import capture_logs

from csi.dm.targets import PoolMode, ThinPoolTable
from csi.errors import NoSpaceError
from csi.units import GIB, MIB, Blocks, sectors
from csi.volumes import sentinel
from csi.volumes.reports import Severity
from tests.faults.rounds import tell
from tests.faults.space.conftest import DISK
from tests.faults.space.writing import map_blocks
from tests.kernel.conftest import wait_until
from tests.kernel.volumes.conftest import MakeServed
from tests.kernel.volumes.served import Served

_PER_SECOND = 4.0
"""Blocks. The fifth of the pool that is left at the threshold lasts 20 s, as in a pool of 100 GiB at 1 GiB/s."""

pytestmark = pytest.mark.timeout(300)


def test_a_writer_that_crosses_threshold_after_threshold_never_meets_a_full_pool(
    make_served: MakeServed, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the kernel's event alone, which must come again after LVM has loaded the pool's table anew."""
    monkeypatch.setattr("csi.agent.monitor._LOOK_EVERY", 3600.0)
    served = make_served(2 * GIB // MIB, thinp_percent=20.0, overprovision_ratio=20.0, block_size=MIB)
    pool = served.pool
    path = served.staged(served.create("v", 2 * GIB, block=True))
    tables, modes = [pool.thin.table], set()
    total = tables[0].length // sectors(MIB)
    mapped = total * 3 // 4
    longest = map_blocks(path, pool, 0, mapped)
    with capture_logs() as logs:
        while len(tables) < 3:
            assert mapped < 2 * total, f"not extended again: {tables}"
            longest = max(longest, map_blocks(path, pool, mapped, 1, per_second=_PER_SECOND))
            mapped += 1
            modes.add(pool.thin.status().mode)
            if pool.thin.table.length != tables[-1].length:
                tables.append(pool.thin.table)
    sizes = [table.length // sectors(MIB) for table in tables]
    tell(f"extended to {sizes} MiB; the longest write took {longest:.2f} s")
    assert modes == {PoolMode.READ_WRITE}
    for before, after in pairwise(tables):
        grown = replace(before, length=after.length, low_water=_low_water(after))
        assert after == grown, "LVM changed more than the size"
    said = [line for line in logs if line["event"] == "pool extended"]
    figures = [(line["what"], line["blocks_before"], line["blocks_after"]) for line in said]
    totals = [table.length // sectors(MIB) for table in tables]
    assert figures[:1] == [("data", *totals[:2])]


def _low_water(table: ThinPoolTable) -> Blocks:
    """Return the mark of a threshold of 80 %."""
    return Blocks(table.length // sectors(table.block_size) * 20 // 100)


def test_dockers_defaults_leave_little_to_extend_into_and_say_so_and_capacity_and_guard_count_it(
    by_default: Served,
) -> None:
    served = by_default
    pool = served.pool
    room = pool.group.room.data
    assert 0 < room < DISK * 3 // 100
    assert _conditions(served) == {"NoExtensionRoom": Severity.INFO}
    assert served.node.storage_health() == []
    whole = pool.thin.status().data_total + room // MIB
    assert served.node.capacity(None).available == whole * 3 * MIB

    wait_until(lambda: sentinel.ballast(pool) == sentinel.ballast_size(pool), 60)
    volume = served.create("v", 4 * GIB, block=True)
    path = served.staged(volume)
    most = whole - -(-whole * 10 // 100)
    """Blocks that may be used with nothing refused."""
    count = most - pool.thin.status(flush=True).data_used
    map_blocks(path, pool, 0, count)
    # Extended by what there was, which had been counted all the time.
    wait_until(lambda: not pool.group.room.data, 60)
    assert pool.thin.status(flush=True).data_total == whole
    assert pool.thin.status().data_used == most
    assert _conditions(served) == {"NoExtensionRoom": Severity.INFO}
    assert served.node.capacity(None).available == whole * 3 * MIB - volume.size
    served.create("fits")

    map_blocks(path, pool, count, 1)
    pool.thin.status(flush=True)
    assert _conditions(served) == {"NoExtensionRoom": Severity.INFO, "DataSpaceLow": Severity.DEGRADED}
    assert served.node.capacity(None).available == 0
    figures = r"of 2\.\d+GiB of data space are free, less than 10 %"
    with pytest.raises(NoSpaceError, match=figures):
        served.create("over")
    with pytest.raises(NoSpaceError, match=figures):
        served.node.create_snapshot("s", volume.handle)


def _conditions(served: Served) -> dict[str, Severity]:
    (report,) = served.node.report().pools
    return {each.reason: each.severity for each in report.conditions}
