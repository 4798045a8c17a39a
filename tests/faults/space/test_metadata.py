"""Metadata that is used up: nothing is answered OK that is not there, and an extension brings the pool back."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from csi.dm import metadata
from csi.dm.targets import PoolMode
from csi.errors import DriverError, UnavailableError
from csi.model import Device
from csi.settings import Autoextend, PoolSpec
from csi.units import MIB, Bytes
from csi.volumes.pool import Pool
from csi.volumes.reports import Severity
from csi.volumes.requests import VolumeRequest
from tests.faults.rounds import tell
from tests.faults.space.writing import map_blocks
from tests.kernel.conftest import wait_until
from tests.kernel.volumes.conftest import MakeServed
from tests.kernel.volumes.served import Served, loop_disk
from tests.kernel.volumes.writing import Filler

_ABOVE = 1 << 20
"""Thin ids that no catalog of a test comes to."""
_LEFT = 40
"""Metadata blocks that are left for the node to use up."""

pytestmark = pytest.mark.timeout(300)


@dataclass
class Two:
    """A node with two pools, the metadata of the first of which is not extended."""

    served: Served
    first: Pool
    other: Pool

    def create(self, name: str, pool: Pool, size: int = 64 * MIB) -> Device:
        request = VolumeRequest(name, Bytes(size), pool=pool.spec.name, block=True)
        return self.served.node.create_volume(request)


@pytest.fixture
def two(make_served: MakeServed, tmp_path: Path) -> Iterator[Two]:
    served = make_served(
        512,
        thinp_percent=20.0,
        min_free_space_percent=0,
        overprovision_ratio=1000.0,
        autoextend=Autoextend(threshold=100, percent=20),
    )
    first = served.pool
    with loop_disk(tmp_path / "other", 512 * MIB) as disk:
        agent = served._agent
        assert agent is not None
        served.node.wanted.want([served.spec, PoolSpec("other", devices=(disk,))], {})
        served.node.open(agent.watch)
        other = served.node.wanted.by_name("other")
        assert other is not None
        yield Two(served, first, other)
        for device in other.catalog.devices():
            other.device(device.handle.thin).deactivate()
        agent.release(other)


def test_who_meets_the_end_of_the_metadata_is_told_and_the_extension_brings_the_pool_back(two: Two) -> None:
    served, pool = two.served, two.first
    volume = two.create("v", pool)
    path = served.staged(volume)
    Filler(path, 4 * MIB).finish()
    _use_up(pool)
    made: list[Device] = [volume]
    refused = ""
    for number in range(10 * _LEFT):
        try:
            made.append(two.create(f"n{number}", pool))
        except DriverError as error:
            refused = str(error)
            break
    tell(f"{len(made) - 1} volumes more, then: {refused}")
    assert refused
    assert pool.thin.status().mode is PoolMode.READ_ONLY
    # Said, and refused from now on; what is mapped works, and so does the node's other pool.
    found = {each.reason: each.severity for each in served.node.storage_health() if "pool default" in each.message}
    assert found["ReadOnly"] is Severity.INACCESSIBLE
    assert served.node.capacity("default").available == 0
    with pytest.raises(UnavailableError, match="mode ro"):
        two.create("another", pool)
    Filler(path, 4 * MIB).finish()
    with pytest.raises(OSError, match="error"):
        map_blocks(path, pool, 900, 1)
    _assert_serves(two, two.other)

    served.node.wanted.want([_extended(pool.spec), two.other.spec], {})
    wait_until(lambda: pool.thin.status().mode is PoolMode.READ_WRITE, 30)
    assert not pool.thin.status().needs_check
    # Everything that was answered OK is there.
    assert {device.handle.thin for device in made} <= metadata.thin_ids(pool.thin)
    pool.reclaim_wanted.set()
    wait_until(lambda: not pool.catalog.counts().deleting, 30)
    assert not [each for each in served.node.storage_health() if "pool default" in each.message]
    two.create(f"n{len(made) - 1}", pool)
    map_blocks(path, pool, 900, 1)
    served.unstage(volume)


def _extended(spec: PoolSpec) -> PoolSpec:
    return PoolSpec(
        spec.name,
        devices=spec.devices,
        thinp_percent=spec.thinp_percent,
        min_free_space_percent=0,
        overprovision_ratio=spec.overprovision_ratio,
    )


def _use_up(pool: Pool) -> None:
    """Leave few blocks of the metadata: every thin device takes one of its own."""
    number = 0
    while (left := _left(pool)) > _LEFT:
        for _ in range(min(left - _LEFT, 500)):
            pool.control.message(pool.thin.name, f"create_thin {_ABOVE + number}")
            number += 1


def _left(pool: Pool) -> int:
    status = pool.thin.status(flush=True)
    return status.metadata_total - status.metadata_used


def _assert_serves(two: Two, pool: Pool) -> None:
    volume = two.create("elsewhere", pool)
    path = two.served.staged(volume)
    Filler(path, 4 * MIB).finish()
    snapshot = two.served.node.create_snapshot("s", volume.handle)
    two.served.unstage(volume)
    two.served.node.delete_snapshot(snapshot.handle)
    two.served.node.delete_volume(volume.handle)
    assert two.served.node.capacity("other").available > 0
