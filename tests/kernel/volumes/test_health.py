"""What is told of a pool or a volume that is not well."""

import contextlib
import os
import time

import pytest

from csi.errors import DriverError, StateError, UnavailableError
from csi.model import FsType
from csi.units import MIB
from csi.volumes.reports import Severity
from tests.kernel.conftest import run, wait_until
from tests.kernel.metadata import fail_writes
from tests.kernel.volumes.conftest import MakeServed
from tests.kernel.volumes.served import SIZE, Served


def test_a_pool_and_its_volumes_that_are_well_have_nothing_to_tell(served: Served) -> None:
    volume = served.create("v")
    served.staged(volume)
    assert served.node.storage_health() == []
    assert served.node.volume_health(volume.handle) == []
    assert served.node.volumes_health() == [(served.node.volume(volume.handle), [])]
    report = served.node.report()
    (pool,) = report.pools
    assert (pool.pool, pool.pool_id, pool.mode_kernel, pool.volumes) == ("default", served.pool.id, "rw", 1)
    assert pool.data_used <= pool.data_total
    assert {each.severity for each in pool.conditions} <= {Severity.INFO}


def test_a_volume_whose_device_is_suspended_says_so(served: Served) -> None:
    volume = served.create("v", SIZE, block=True)
    served.staged(volume)
    thin = served.pool.device(volume.handle.thin)
    thin.freeze()
    try:
        (found,) = served.node.volume_health(volume.handle)
    finally:
        thin.thaw()
    assert (found.reason, found.severity) == ("DeviceSuspended", Severity.INACCESSIBLE)
    assert served.node.volume_health(volume.handle) == []


def test_a_volume_that_the_pool_has_no_longer_is_lost_data(served: Served) -> None:
    lost, kept = served.create("lost"), served.create("kept")
    served.staged(kept)
    served.unstage(kept)
    served.pool.thin.delete(lost.handle.thin)
    # Found at the next start, as after a repair that lost it.
    served.reboot()
    (found,) = served.node.volume_health(lost.handle)
    assert (found.reason, found.severity) == ("DeviceMissing", Severity.DATA_LOSS)
    assert str(lost.handle) in found.message
    assert served.node.volume_health(kept.handle) == []
    assert [each.reason for each in served.node.storage_health()] == ["CatalogBehind"]
    assert lost.handle in [each.handle for each in served.node.check().findings]
    with pytest.raises(StateError, match="does not have it"):
        served.staged(lost)
    with pytest.raises(UnavailableError, match="check --rebuild"):
        served.create("new")
    served.staged(kept)
    served.unstage(kept)
    served.node.check(rebuild=True)
    assert served.create("new").size
    (found,) = served.node.volume_health(lost.handle)
    assert found.severity is Severity.DATA_LOSS


def test_a_pool_whose_metadata_cannot_be_written_and_its_file_systems_say_so(make_served: MakeServed) -> None:
    served = make_served(1024, agent=False)
    volume, shut = served.create("v"), served.create("xfs", 300 * MIB, fs_type=FsType.XFS)
    place, other = served.staged(volume), served.staged(shut)
    assert served.node.volumes_health() == [(each, []) for each in served.node.volumes()]
    fail_writes(served.pool.thin.table.metadata)
    with pytest.raises(DriverError):
        served.create("new")
    reasons = {each.reason: each.severity for each in served.node.storage_health()}
    assert reasons == {"NeedsRepair": Severity.DATA_LOSS, "ReadOnly": Severity.INACCESSIBLE}
    assert served.node.capacity(None).available == 0
    for request in (
        lambda: served.create("new"),
        lambda: served.copy("c", volume.handle),
        lambda: served.node.create_snapshot("s", volume.handle),
        lambda: served.node.create_group("g", [volume.handle]),
    ):
        with pytest.raises(UnavailableError, match="needs a check"):
            request()

    def stopped() -> bool:
        # The journal comes to blocks that were never written.
        with contextlib.suppress(OSError):
            os.mkdir(f"{place}/{time.monotonic_ns()}")
            os.sync()
        return any(each.reason == "FileSystemFailed" for each in served.node.volume_health(volume.handle))

    wait_until(stopped, 30)
    found = served.node.volume_health(volume.handle)
    assert [each.reason for each in found] == ["NeedsRepair", "ReadOnly", "FileSystemFailed"]
    run("xfs_io", "-x", "-c", "shutdown", other)
    found = served.node.volume_health(shut.handle)
    assert [each.reason for each in found] == ["NeedsRepair", "ReadOnly", "FileSystemFailed"]
    checked = served.node.check()
    assert checked.thin_check == {"default": "needs-check"}
    assert "takes no messages" in checked.findings[0].message
    assert served.node.report().pools[0].mode_kernel == "ro"
