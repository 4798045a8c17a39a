"""A pool that is full: what is told, who waits, who fails, and that all go on."""

import errno
import json
import subprocess
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import pytest

from csi.agent.cluster import Cluster, Contact
from csi.agent.memory import Memory
from csi.agent.metrics import PoolCollector
from csi.dm.targets import PoolMode
from csi.errors import NoSpaceError
from csi.kube.api import Api
from csi.kube.thin_pool import conditions
from csi.lvm.pool_group import NO_SPACE_TIMEOUT
from csi.model import Device, FsType
from csi.settings import WhenFull
from csi.units import MIB
from csi.volumes import sentinel
from tests.faults.rounds import FACTOR, tell
from tests.faults.space.writing import Writer, free_blocks, map_blocks
from tests.kernel.conftest import run, wait_until
from tests.kernel.volumes.conftest import MakeServed
from tests.kernel.volumes.served import SIZE, Served
from tests.kernel.volumes.writing import Filler
from tests.unit.kube.fake import FakeApi

_GROUP: Final = "/apis/thinpool-csi.dev/v1alpha1"
_MINE: Final = f"{_GROUP}/thinpoolnodes/default.node-a"
_TOLD: Final = 10.0
"""Seconds, where seconds are promised."""
_PAUSE: Final = 8.0 if FACTOR == 1 else 600.0
_MORE: Final = 4
"""MiB that each writer has left to write when there is room again."""

pytestmark = pytest.mark.timeout(300 + int(_PAUSE))


def test_a_pool_that_runs_full_is_told_of_in_seconds_in_status_event_and_metric(
    make_served: MakeServed, tmp_path: Path
) -> None:
    served = make_served(268, overprovision_ratio=3.0)
    api = _api(served)
    assert served._agent is not None
    contact = Contact("127.0.0.1:9811", lambda: "")
    cluster = Cluster(served.node, served._agent, _connected(api, tmp_path), contact, Memory(tmp_path / "memory"))
    cluster.start()
    try:
        wait_until(lambda: _told(api, "Ready") == "True", 30)
        wait_until(lambda: sentinel.ballast(served.pool) == sentinel.ballast_size(served.pool), 30)
        filler = served.staged(served.create("v", 200 * MIB, block=True))
        free = free_blocks(served.pool)
        map_blocks(filler, served.pool, 0, free - 8)
        begun = time.monotonic()
        wait_until(lambda: _everywhere(served, api, "DataSpaceLow"), _TOLD)
        low = time.monotonic() - begun
        Filler(filler, (free + 64) * served.pool.block_size)
        wait_until(lambda: _mode(served) is PoolMode.OUT_OF_DATA_SPACE and not sentinel.ballast(served.pool), 60)
        begun = time.monotonic()
        wait_until(lambda: _everywhere(served, api, "PoolFull"), _TOLD)
        tell(f"told of: DataSpaceLow after {low:.1f} s, PoolFull {time.monotonic() - begun:.1f} s")
        assert _told(api, "Ready") == "False"
    finally:
        cluster.stop()
        api.end()


def _api(served: Served) -> FakeApi:
    api = FakeApi()
    api.objects[f"{_GROUP}/thinpools/default"] = {
        "metadata": {"name": "default", "generation": 1},
        "spec": {"devices": list(served.spec.devices)},
    }
    api.objects[_MINE] = {
        "apiVersion": "thinpool-csi.dev/v1alpha1",
        "kind": "ThinPoolNode",
        "metadata": {"name": "default.node-a", "uid": "u1"},
        "spec": {"poolName": "default", "nodeName": "node-a"},
        "status": {"poolID": str(served.pool.id)},
    }
    return api


def _connected(api: FakeApi, directory: Path) -> Api:
    file = directory / "kubeconfig"
    server = f"http://127.0.0.1:{api.server.server_port}"
    known: dict[str, Any] = {
        "clusters": [{"name": "c", "cluster": {"server": server}}],
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
        "users": [{"name": "u", "user": {}}],
        "current-context": "c",
    }
    file.write_text(json.dumps(known))
    return Api.connect(str(file))


def _told(api: FakeApi, condition: str) -> str:
    return str(conditions(api.objects[_MINE]).get(condition, {}).get("status", ""))


def _everywhere(served: Served, api: FakeApi, reason: str) -> bool:
    events = {each.get("reason") for each in list(api.objects.values())}
    (metric,) = (each for each in PoolCollector(served.node).collect() if each.name == "thinpool_csi_pool_condition")
    counted = {sample.labels["reason"] for sample in metric.samples}
    return _told(api, reason) == "True" and reason in events and reason in counted


# -- whenFull: wait ---------------------------------------------------------------------------------------------


def _add_disk(served: Served, _victim: Device, disk: str) -> None:
    served.pool.follow(replace(served.spec, devices=(*served.spec.devices, disk)))


def _delete_volume(served: Served, victim: Device, _disk: str) -> None:
    served.node.delete_volume(victim.handle)


@pytest.mark.parametrize("make_room", [_add_disk, _delete_volume], ids=["disk", "deletion"])
def test_writers_of_a_full_pool_pause_and_go_on_without_one_error(
    spare_disk: str, make_served: MakeServed, make_room: Callable[[Served, Device, str], None]
) -> None:
    served = make_served(330, min_free_space_percent=0, overprovision_ratio=20.0)
    assert NO_SPACE_TIMEOUT.read_text().strip() == "0"
    victim, mapped = served.create("victim", 32 * MIB, block=True), served.create("mapped", 4 * MIB, block=True)
    Filler(served.staged(victim), 32 * MIB).finish()
    served.unstage(victim)
    there = served.staged(mapped)
    Filler(there, 4 * MIB).finish()
    volumes = _volumes(served)
    logged = _kernel_log()
    paths = [_path(volume, served.staged(volume)) for volume in volumes]
    writers = [Writer(path) for path in paths]
    wait_until(lambda: _mode(served) is PoolMode.OUT_OF_DATA_SPACE and not sentinel.ballast(served.pool), 120)
    begun = time.monotonic()
    while time.monotonic() - begun < _PAUSE:
        assert not [writer.error for writer in writers if writer.done]
        # What is allocated stays writable all the time.
        Filler(there, 4 * MIB).finish(60)
        time.sleep(1)
    assert _mode(served) is PoolMode.OUT_OF_DATA_SPACE
    for writer in writers:
        writer.write_more(_MORE)
    freed = time.monotonic()
    make_room(served, victim, spare_disk)
    wait_until(lambda: all(writer.done for writer in writers), 90)
    tell(f"paused for {freed - begun:.0f} s, all went on {time.monotonic() - freed:.1f} s later")
    assert [writer.error for writer in writers] == [None] * len(writers)
    assert _kernel_log()[len(logged) :] == []
    for volume, writer in zip(volumes, writers, strict=True):
        assert served.node.volume_health(volume.handle) == []
        served.unstage(volume)
        served.staged(volume)
        writer.verify()


# -- whenFull: error --------------------------------------------------------------------------------------------


def test_where_writers_are_to_fail_what_they_had_synced_is_there_after_the_next_mount(
    spare_disk: str, make_served: MakeServed
) -> None:
    served = make_served(330, min_free_space_percent=0, overprovision_ratio=20.0, when_full=WhenFull.ERROR)
    wait_until(lambda: sentinel.ballast(served.pool) == sentinel.ballast_size(served.pool), 30)
    rest = served.staged(served.create("rest", block=True))
    idle = served.create("idle")
    with open(f"{served.staged(idle)}/file", "wb", buffering=0) as file:
        file.write(b"i" * MIB)
    run("sync", "--file-system", served.path(f"staged-{idle.handle}"))
    volumes = _volumes(served)
    paths = [_path(volume, served.staged(volume)) for volume in volumes]
    writers = [Writer(path) for path in paths]
    wait_until(lambda: all(writer.done for writer in writers), 120)
    assert all(writer.error and writer.written for writer in writers)
    # What the ballast gives is free when all of them have ended.
    served.ballast_given()
    eater = Filler(rest, SIZE)
    wait_until(lambda: eater.done, 30)
    assert eater.error is not None
    assert eater.error.errno == errno.ENOSPC
    assert _mode(served) is PoolMode.OUT_OF_DATA_SPACE
    for make in (
        lambda: served.node.create_snapshot("s", idle.handle),
        lambda: served.node.create_group("g", [idle.handle, *(volume.handle for volume in volumes)]),
        lambda: served.create("new"),
    ):
        with pytest.raises(NoSpaceError, match="is full"):
            make()
    # A freeze would have taken the journal of one along that had nothing to write.
    assert [each.reason for each in served.node.volume_health(idle.handle)] == ["PoolFull"]
    told = {volume.name: [each.reason for each in served.node.volume_health(volume.handle)][1:] for volume in volumes}
    tell(f"errors: {[str(writer.error) for writer in writers]}; besides PoolFull: {told}")

    _add_disk(served, idle, spare_disk)
    wait_until(lambda: _mode(served) is PoolMode.READ_WRITE, 60)
    for volume, writer in zip(volumes, writers, strict=True):
        served.unstage(volume)
        place = served.staged(volume)
        writer.verify()
        more = Writer(f"{_path(volume, place)}-more" if volume.fs_type else place)
        more.write_more(_MORE)
        wait_until(lambda more=more: more.done, 30)  # type: ignore[misc]
        assert more.error is None
        assert served.node.volume_health(volume.handle) == []


# -- both -------------------------------------------------------------------------------------------------------


def _volumes(served: Served) -> list[Device]:
    """Make one of each kind, larger than what its writer comes to."""
    size = 600 * MIB
    return [
        served.create("ext4", size),
        served.create("xfs", size, fs_type=FsType.XFS),
        served.create("block", size, block=True),
    ]


def _path(volume: Device, place: str) -> str:
    return f"{place}/numbers" if volume.fs_type else place


def _mode(served: Served) -> PoolMode:
    return served.pool.thin.status().mode


def _kernel_log() -> list[str]:
    """Return what the kernel has said of errors; that a loop device cannot write zeroes by itself is none."""
    said = subprocess.run(["dmesg", "--notime"], check=True, capture_output=True, text=True, timeout=30).stdout
    lines = [line for line in said.splitlines() if "WRITE_ZEROES" not in line]
    return [line for line in lines if "error" in line.lower() or "shut" in line.lower()]
