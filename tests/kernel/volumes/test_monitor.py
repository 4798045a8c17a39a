"""The monitor's look: what it must not wait for, and what it does though something else fails."""

import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import NoReturn

import pytest

from csi.agent import monitor as module
from csi.agent.monitor import Monitor
from csi.dm.events import EventWatch
from csi.errors import CommandError
from csi.settings import Autoextend, WhenFull
from csi.units import GIB, MIB
from csi.volumes import pulse
from tests.kernel.conftest import run, wait_until
from tests.kernel.volumes.conftest import MakeServed
from tests.kernel.volumes.served import Served, loop_disk
from tests.kernel.volumes.writing import Filler


@pytest.fixture
def quiet(make_served: MakeServed) -> Served:
    """Open a node on a pool that nobody looks after but the tests."""
    return make_served(1024, agent=False, thinp_percent=50)


@pytest.fixture
def monitor(quiet: Served) -> Iterator[Monitor]:
    watch = EventWatch()
    yield Monitor(quiet.pool, watch, threading.Event())
    watch.close()


def _refuse(_what: object) -> NoReturn:
    raise CommandError("do", "it", "the test says so")


def _suspend(served: Served) -> Filler:
    """Leave the pool as LVM does when it is killed in an extension, with somebody who writes to it."""
    path = served.staged(served.create("v", block=True))
    served.control.suspend(served.pool.thin.name)
    assert served.pool.thin.info.suspended
    return Filler(path, 4 * MIB)


def test_a_pool_that_lvm_left_suspended_runs_after_the_next_look(quiet: Served, monitor: Monitor) -> None:
    filler = _suspend(quiet)
    monitor.look()
    filler.finish()
    assert not quiet.pool.thin.info.suspended


def test_a_pool_that_lvm_left_suspended_runs_when_it_is_opened_again(quiet: Served) -> None:
    filler = _suspend(quiet)
    quiet.stop()
    quiet.open(agent=False)
    filler.finish()
    assert not quiet.pool.thin.info.suspended


def test_a_new_disk_that_hangs_is_left_alone_and_holds_up_nobody(
    quiet: Served, monitor: Monitor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pulse, "_PATIENCE", 0.5)
    monkeypatch.setattr(module, "_DISKS_EVERY", 0.0)
    with loop_disk(tmp_path / "more", GIB) as below:
        run("dmsetup", "create", "test-more", "--table", f"0 {GIB // 512} linear {below} 0")
        run("dmsetup", "suspend", "--noflush", "--nolockfs", "test-more")
        quiet.pool.follow(replace(quiet.spec, devices=(*quiet.spec.devices, "/dev/mapper/test-more")))
        try:
            with monkeypatch.context() as patched:
                patched.setattr(quiet.pool.group, "add_devices", _refuse)
                for _ in range(3):
                    monitor.look()
                    assert quiet.pool.group.refused == {"/dev/mapper/test-more": "it does not answer"}
            assert len([thread for thread in threading.enumerate() if thread.name == "pulse"]) == 1
        finally:
            run("dmsetup", "resume", "test-more")
        wait_until(lambda: monitor.look() >= 0 and not quiet.pool.group.refused)
        assert len(quiet.pool.group.devices) == 2
        quiet.leave()
        run("dmsetup", "remove", "--retry", "test-more")


def test_lvm_is_told_what_a_full_pool_does_when_no_freeze_is_under_way(quiet: Served, monitor: Monitor) -> None:
    quiet.let(when_full=WhenFull.ERROR)
    with quiet.pool.freezing:
        monitor.look()
        assert quiet.pool.thin.status().queue_if_no_space
    monitor.look()
    assert not quiet.pool.thin.status().queue_if_no_space


def test_a_pool_is_extended_although_lvm_refuses_something_else(
    quiet: Served, monitor: Monitor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quiet.pool.group, "set_when_full", _refuse)
    total = quiet.pool.thin.status().data_total
    quiet.let(autoextend=Autoextend(threshold=1, percent=20))
    Filler(quiet.staged(quiet.create("v", block=True)), 32 * MIB).finish()
    with pytest.raises(CommandError, match="says so"):
        monitor.look()
    assert quiet.pool.thin.status().data_total > total
