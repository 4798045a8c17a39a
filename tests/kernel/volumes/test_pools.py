"""Pools that are wanted otherwise than before: changed fields, more disks, removal."""

import subprocess
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest

from csi.errors import StateError
from csi.model import SENTINEL
from csi.settings import LoopSize, Mode, PoolSpec, WhenFull
from csi.units import GIB, MIB, Bytes
from csi.volumes import sentinel
from csi.volumes.pool import Pool
from csi.volumes.reports import Severity
from tests.kernel.conftest import run, wait_until
from tests.kernel.volumes.conftest import MakeServed
from tests.kernel.volumes.served import Served, loop_disk, pool_devices


def signatures(disk: str) -> str:
    return run("wipefs", "--no-act", "--noheadings", disk).strip()


def remove(served: Served) -> None:
    assert served._agent is not None
    served._agent.remove(served.pool)


def test_an_empty_pool_is_removed_and_its_disk_is_blank(make_served: MakeServed) -> None:
    served = make_served(1024)
    (disk,) = served.spec.devices
    volume = served.create("v")
    served.staged(volume)
    served.unstage(volume)
    with pytest.raises(StateError, match="it holds 1 volumes"):
        remove(served)
    served.node.delete_volume(volume.handle)
    served.reclaimed()
    pool_id = served.pool.id
    remove(served)
    assert not served.node.pools
    assert not [name for name in pool_devices() if pool_id in name]
    assert not signatures(disk)
    served.open()
    assert served.pool.id != pool_id


def test_a_pool_is_taken_out_of_the_kernel_while_its_ballast_is_filled(
    make_served: MakeServed, monkeypatch: pytest.MonkeyPatch
) -> None:
    served = make_served(1024)
    agent, pool = served._agent, served.pool
    assert agent is not None
    filling = threading.Event()

    def size_late(of: Pool) -> Bytes:
        if threading.current_thread().name.startswith("ballast"):
            # The device was looked at and is about to be loaded. The worst moment for that is once it is removed.
            filling.set()
            deadline = time.monotonic() + 3
            while of.device(SENTINEL).info() is not None and time.monotonic() < deadline:
                time.sleep(0.01)
        return size(of)

    size = sentinel.ballast_size
    wait_until(lambda: sentinel.ballast(pool) == size(pool), 20)
    monkeypatch.setattr(sentinel, "ballast_size", size_late)
    assert sentinel.drop(pool)
    assert filling.wait(30)
    agent.release(pool)
    assert not [name for name in pool_devices() if pool.id in name]


def test_a_pool_with_a_snapshot_or_a_stranger_in_it_is_not_removed(make_served: MakeServed) -> None:
    served = make_served(1024)
    volume = served.create("v")
    snapshot = served.node.create_snapshot("s", volume.handle)
    served.node.delete_volume(volume.handle)
    served.reclaimed()
    with pytest.raises(StateError, match="delete them first"):
        remove(served)
    served.node.delete_snapshot(snapshot.handle)
    served.reclaimed()
    served.pool.thin.create_thin(served.pool.device(snapshot.handle.thin).handle.thin)
    with pytest.raises(StateError, match="delete them first"):
        remove(served)


def test_no_pool_is_made_in_the_place_of_one_that_is_known(make_served: MakeServed, tmp_path: Path) -> None:
    served = make_served(1024)
    known = {served.spec.name: str(served.pool.id)}
    agent = served._agent
    assert agent is not None
    agent.release(served.pool)
    with loop_disk(tmp_path / "blank", GIB) as blank:
        served.node.wanted.want([replace(served.spec, devices=(blank,))], known)
        served.node.open()
        (told,) = served.node.report().pools
        assert [each.reason for each in told.conditions] == ["PoolGone"]
        assert known[served.spec.name] in told.conditions[0].message
        assert not signatures(blank)
    served.node.wanted.want([served.spec], known)
    served.node.open(agent.watch)
    assert served.pool.id == known[served.spec.name]


def test_disks_that_are_not_there_are_no_trouble_of_the_node(make_served: MakeServed, tmp_path: Path) -> None:
    served = make_served(1024)
    served.node.wanted.want([served.spec, replace(served.spec, name="other", devices=(f"{tmp_path}/none*",))], {})
    served.node.open()
    (told,) = [each for each in served.node.report().pools if each.pool == "other"]
    assert [(each.reason, each.severity) for each in told.conditions] == [("NoDevices", Severity.INFO)]
    assert not [each for each in served.node.storage_health() if "other" in each.message]


def test_a_removed_loop_pool_leaves_no_file(make_served: MakeServed, tmp_path: Path) -> None:
    served = make_served(1024)
    spec = PoolSpec("loop", mode=Mode.LOOP, loop=LoopSize(Bytes(GIB), Bytes(256 * MIB)))
    looped = Served(tmp_path, spec, served.freezer)
    looped.open()
    remove(looped)
    assert not list((tmp_path / "state/loop/loop").iterdir())
    assert str(tmp_path) not in run("losetup", "--all")
    looped.stop()


def test_a_disk_that_is_named_later_joins_the_pool_and_one_with_data_is_left_alone(
    make_served: MakeServed, tmp_path: Path
) -> None:
    served = make_served(1024)
    before = served.pool.space().extendable
    with loop_disk(tmp_path / "more", GIB) as more, loop_disk(tmp_path / "used", GIB) as used:
        run("mkfs.ext4", "-q", used)
        was = signatures(used)
        served.node.wanted.want([replace(served.spec, devices=(*served.spec.devices, more, used))], {})
        wait_until(lambda: served.pool.group.refused, 20)
        assert "ext4" in served.pool.group.refused[used]
        assert set(served.pool.group.devices) == {*served.spec.devices, more}
        assert served.pool.space().extendable > before
        assert [each.reason for each in served.node.report().pools[0].conditions] == ["DevicesRefused"]
        assert signatures(used) == was
        remove(served)
        assert not signatures(more)


def test_changed_fields_hold_at_once(make_served: MakeServed) -> None:
    served = make_served(1024)
    served.create("v")
    served.node.wanted.want([replace(served.spec, when_full=WhenFull.ERROR, overprovision_ratio=0.1)], {})
    wait_until(lambda: not served.pool.thin.status().queue_if_no_space, 20)
    assert served.node.capacity(None).available < 100 * MIB
    served.node.wanted.want([], {})
    assert served.node.pools
    done = subprocess.run(["dmsetup", "ls"], check=True, capture_output=True, text=True, timeout=30)
    assert served.pool.id in done.stdout
