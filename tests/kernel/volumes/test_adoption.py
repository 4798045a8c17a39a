"""Whose pool it is: found again, another node's, another process's, and nobody's to take away."""

import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from csi.errors import ForeignPoolError, PoolBusyError
from csi.lvm.runner import system_id
from csi.model import SENTINEL, Device
from csi.settings import WhenFull
from csi.units import MIB
from csi.volumes.node import Node
from tests.kernel.conftest import detached, run
from tests.kernel.volumes.served import NODE, Served

_NO_SPACE_TIMEOUT = Path("/sys/module/dm_thin_pool/parameters/no_space_timeout")


@pytest.fixture
def volume(served: Served) -> Device:
    """Make a volume with something in it, at rest, and a snapshot of it."""
    made = served.create("v")
    Path(served.staged(made), "file").write_text("kept")
    served.unstage(made)
    served.node.create_snapshot("s", made.handle)
    return served.node.volume(made.handle)


def _kept(served: Served, volume: Device) -> bool:
    text = Path(served.staged(volume), "file").read_text()
    served.unstage(volume)
    return text == "kept"


def _admin(served: Served, *args: str) -> "subprocess.CompletedProcess[str]":
    """Run LVM on the pool's disk as the node's administrator would."""
    config = f'global{{system_id_source="lvmlocal"}} local{{system_id="{system_id(NODE)}"}} activation{{monitoring=0}}'
    argv = ["lvm", args[0], "--devices", served.spec.devices[0], "--config", config, *args[1:]]
    return subprocess.run(argv, check=False, capture_output=True, text=True, timeout=60)


def test_a_pool_is_found_with_all_its_volumes_by_a_node_that_remembers_nothing(served: Served, volume: Device) -> None:
    snapshots = served.node.snapshots()
    pool_id, number = served.pool.id, served.pool.thin.status().transaction_id
    served.leave()
    shutil.rmtree(served.base / "state")
    served.open()
    assert served.pool.id == pool_id
    assert served.node.volumes() == [volume]
    assert served.node.snapshots() == snapshots
    assert _kept(served, volume)
    assert served.create("new").handle.thin >= number


def test_a_pool_of_another_node_is_left_alone_until_it_is_named(served: Served, volume: Device, tmp_path: Path) -> None:
    pool_id = served.pool.id
    served.leave()
    other = Served(tmp_path / "b", served.spec, served.freezer, node_name="node-b")
    before = _admin(served, "vgs", "--noheadings", "--options", "vg_name,vg_uuid,vg_systemid,vg_tags,vg_seqno").stdout
    stranger = Node(other.place, [other.spec])
    stranger.open()
    assert isinstance(stranger.closed["default"], ForeignPoolError)
    assert pool_id in str(stranger.closed["default"])
    assert "'adopt'" in str(stranger.closed["default"])
    (condition,) = stranger.storage_health()
    assert condition.reason == "ForeignPool"
    after = _admin(served, "vgs", "--noheadings", "--options", "vg_name,vg_uuid,vg_systemid,vg_tags,vg_seqno").stdout
    assert after == before

    other.spec = replace(other.spec, adopt=frozenset({pool_id}))
    other.open()
    assert other.node.volumes() == [volume]
    assert _kept(other, volume)
    other.leave()

    # Now it is node-b's; node-a gets it back in the same way.
    back = Node(served.place, [served.spec])
    back.open()
    assert isinstance(back.closed["default"], ForeignPoolError)
    mine = served.spec
    served.spec = replace(mine, adopt=frozenset({pool_id}))
    served.open()
    served.spec = mine
    assert _kept(served, volume)


def test_a_pool_that_was_adopted_is_the_nodes_own_from_then_on(served: Served, volume: Device) -> None:
    served.reboot()
    assert served.node.volumes() == [volume]


@contextmanager
def _held(served: Served) -> Iterator[subprocess.Popen[str]]:
    """Have another process serve the pool."""
    served.stop()
    argv = (sys.executable, "-m", "tests.kernel.volumes.hold_pool", str(served.base), served.spec.devices[0])
    with detached(*argv) as holder:
        assert holder.stdout is not None
        assert any(line == "open\n" for line in holder.stdout)
        yield holder


def test_a_second_process_is_refused_and_takes_over_when_the_first_was_killed(
    served: Served, volume: Device, tmp_path: Path
) -> None:
    served.staged(volume)
    with _held(served) as holder:
        with pytest.raises(PoolBusyError):
            served.open()
        elsewhere = Served(tmp_path / "elsewhere", served.spec, served.freezer)
        with pytest.raises(PoolBusyError, match="another process serves this pool"):
            elsewhere.open()
        holder.kill()
        holder.wait(30)
        _assert_protected(served, ("lvchange", "-an"), ("vgremove", "-ff", "-y"))
        served.open()
    assert served.node.volumes() == [volume]
    assert Path(served.path(f"staged-{volume.handle}"), "file").read_text() == "kept"
    served.unstage(volume)


def test_lvm_neither_makes_volumes_in_the_pool_nor_takes_it_away(served: Served, volume: Device) -> None:
    _assert_protected(
        served,
        ("lvcreate", "--name", "x", "--virtualsize", "64M", "--thinpool"),
        ("lvchange", "-an"),
        ("lvremove", "-ff", "-y"),
        ("vgremove", "-ff", "-y"),
        ("vgexport",),
    )
    assert _kept(served, volume)
    assert served.create("new").size
    assert served.node.check().findings == ()


def _assert_protected(served: Served, *commands: tuple[str, ...]) -> None:
    """See that each command on the pool (or on its VG) is refused and changes nothing."""
    (group,) = (name for name in _admin(served, "vgs", "--noheadings", "--options", "vg_name").stdout.split())
    before = _admin(served, "lvs", "--all", "--noheadings", "--options", "lv_name,lv_size,lv_active").stdout
    table = _tables()
    for command in commands:
        subject = group if command[0].startswith("vg") else f"{group}/pool"
        done = _admin(served, *command, subject)
        assert done.returncode, (command, done.stdout)
    assert _admin(served, "lvs", "--all", "--noheadings", "--options", "lv_name,lv_size,lv_active").stdout == before
    assert _tables() == table


def _tables() -> list[list[str]]:
    """Return the tables of thin pools as far as block size: the rest LVM sets by its user's configuration."""
    return [line.split()[:7] for line in run("dmsetup", "table", "--target", "thin-pool").splitlines()]


def test_an_opened_pool_is_guarded_and_waits_when_it_is_full(served: Served) -> None:
    status = served.pool.thin.status()
    assert status.transaction_id >= 1
    assert served.pool.device(SENTINEL).info() is not None
    assert status.queue_if_no_space
    assert _NO_SPACE_TIMEOUT.read_text().strip() == "0"


def test_what_a_full_pool_does_follows_the_setting_at_each_start(served: Served) -> None:
    kept = served.spec
    try:
        served.leave()
        served.spec = replace(kept, when_full=WhenFull.ERROR)
        served.open()
        assert served.pool.thin.table.error_if_no_space
        assert not served.pool.thin.status().queue_if_no_space
    finally:
        served.spec = kept
    served.reboot()
    assert not served.pool.thin.table.error_if_no_space


def test_opening_another_pool_ends_no_freeze_of_this_one(
    served: Served,
) -> None:
    volume = served.create("v", 16 * MIB, block=True)
    served.staged(volume)
    other = replace(served.spec, name="other", devices=("/dev/does-not-exist",))
    with served.pool.frozen("test", [served.pool.device(volume.handle.thin)]):
        node = Node(served.place, [other])
        node.open()
        assert "other" in node.closed
        info = served.pool.device(volume.handle.thin).info()
        assert info is not None
        assert info.suspended
