"""A pool's group: its facts, and the commands that change it."""

from dataclasses import replace
from pathlib import Path

import pytest

from csi.errors import DataLossError, NeedsRepairError, NoSpaceError, StateError, UnavailableError
from csi.lvm.creation import Intent
from csi.lvm.layout import Room
from csi.lvm.pool_group import PoolGroup
from csi.lvm.runner import Lvm
from csi.lvm.values import VolumeGroup, parse_report
from csi.settings import PoolSpec, WhenFull
from csi.units import GIB, KIB, MIB, Bytes
from tests.unit.lvm.conftest import Programs, lv_row, pool_rows, pv_row, report, vg_row

SPEC = PoolSpec("fast", devices=("/dev/sdb",))
POOL = "thinpool-abcdefghij/pool"
CREATING = vg_row()["vg_tags"] + ",thinpool-csi.creating"


@pytest.fixture
def make(programs: Programs, tmp_path: Path) -> "Make":
    return Make(programs, tmp_path)


class Make:
    """Makes a PoolGroup over a fake lvm that reports what it is told to."""

    def __init__(self, programs: Programs, state: Path) -> None:
        self.programs = programs
        self.intent = Intent(state, "fast")

    def __call__(self, *, pool: dict[str, str] | None = None, without: str = "", **vg: str) -> PoolGroup:
        lvm = Lvm(["/dev/sdb"], "thinpool-csi.node-a", path=self.programs.path)
        return PoolGroup(SPEC, lvm, self.report(pool=pool, without=without, **vg), self.intent)

    def report(self, *, pool: dict[str, str] | None = None, without: str = "", **vg: str) -> VolumeGroup:
        rows = pool_rows()
        rows["lv"] = [row | (pool or {}) if row["lv_name"] == "pool" else row for row in rows["lv"]]
        if pool and "lv_active" in pool:
            metadata = {"lv_active": pool["lv_active"]}
            rows["lv"] = [row | metadata if row["lv_name"] == "pool_tmeta" else row for row in rows["lv"]]
        rows["lv"] = [row for row in rows["lv"] if row["lv_name"] != without]
        text = report({"vg": [vg_row(**vg)], "pv": [pv_row()], **rows})
        self.programs.answer("lvm.fullreport", text)
        return parse_report(text).groups[0]


def test_facts_come_from_the_report(make: Make) -> None:
    group = make()
    assert (group.pool_id, group.vg_name) == ("abcdefghij", "thinpool-abcdefghij")
    assert group.pool_name == "thinpool--abcdefghij-pool"
    assert group.pool_uuid == "LVM-kgJKKLdFdYlvpool-tpool"
    assert (group.catalog_path, group.catalog_active) == ("/dev/dm-3", True)
    assert (group.block_size, group.metadata_size) == (64 * KIB, 100 * MIB)
    assert group.devices == ("/dev/sdb",)
    assert group.catalog_fresh
    assert group.complete
    assert group.room == Room(Bytes((53 - 10) * 4 * MIB), Bytes(26 * 4 * MIB))
    assert make.programs.calls == []


def test_an_active_pool_needs_no_command(make: Make) -> None:
    make().activate()
    assert make.programs.calls == []


@pytest.mark.parametrize("fields", [{"lv_check_needed": "check needed"}, {"lv_health_status": "failed"}])
def test_a_pool_that_comes_up_damaged_is_unavailable(fields: dict[str, str], make: Make) -> None:
    with pytest.raises(NeedsRepairError, match=r"needs_check|failed"):
        make(pool=fields).activate()
    assert make.programs.changes() == []


@pytest.mark.parametrize("fields", [{"lv_check_needed": "check needed"}, {"lv_health_status": "failed"}])
def test_a_pool_that_was_activated_and_came_up_damaged_is_taken_out_again(fields: dict[str, str], make: Make) -> None:
    group = make(pool={"lv_active": ""})
    make.report(pool=fields)
    with pytest.raises(NeedsRepairError, match="run 'thinpool-csi repair --pool fast'"):
        group.activate()
    assert make.programs.changes()[1:] == [["lvchange", "--activate", "n", POOL]]


def test_an_inactive_pool_is_activated_with_one_command(make: Make) -> None:
    group = make(pool={"lv_active": ""})
    make.report()
    group.activate()
    assert make.programs.changes() == [["lvchange", "--activate", "y", POOL, "thinpool-abcdefghij/catalog"]]
    assert group.active


def test_lvms_refusal_to_activate_is_said_with_the_way_out(make: Make) -> None:
    make.programs.answer("lvm.lvchange", stderr="Check of pool failed (status:1). Manual repair required!", status=5)
    with pytest.raises(NeedsRepairError, match=r"Check of pool failed.*; run 'thinpool-csi repair --pool fast'"):
        make(pool={"lv_active": ""}).activate()
    make.programs.answer("lvm.lvchange", stderr="device-mapper: reload failed", status=5)
    with pytest.raises(UnavailableError, match="reload failed") as refused:
        make(pool={"lv_active": ""}).activate()
    assert not isinstance(refused.value, NeedsRepairError)


def test_a_pool_whose_repair_was_cut_short_is_not_activated(make: Make) -> None:
    group = make(pool={"lv_active": ""})
    volumes = dict(group._group.volumes)
    volumes["pool_tmeta"] = replace(volumes["pool_tmeta"], active=True)
    group._group = replace(group._group, volumes=volumes)
    with pytest.raises(NeedsRepairError, match="cut short"):
        group.activate()
    assert make.programs.calls == []


@pytest.mark.parametrize(
    ("step", "added"), [(Bytes(1), "+1"), (Bytes(4 * MIB), "+1"), (Bytes(5 * MIB), "+2"), (Bytes(GIB), "+43")]
)
def test_data_is_extended_by_the_smaller_of_step_and_room(step: Bytes, added: str, make: Make) -> None:
    make().extend_data(step)
    assert make.programs.changes() == [["lvextend", "--extents", added, POOL]]


def test_metadata_is_extended_by_the_smaller_of_step_and_half_of_what_is_free(make: Make) -> None:
    make().extend_metadata(Bytes(GIB))
    assert make.programs.changes() == [["lvextend", "--poolmetadatasize", f"+{26 * 4 * MIB}b", POOL]]


def test_nothing_left_is_an_error_and_no_command(make: Make) -> None:
    group = make(vg_free_count="10")
    with pytest.raises(NoSpaceError, match="add a disk"):
        group.extend_data(Bytes(GIB))
    make.report(vg_free_count="1")
    with pytest.raises(NoSpaceError, match="extend metadata"):
        group.extend_metadata(Bytes(GIB))
    assert make.programs.changes() == []


def test_the_catalogs_mark_is_removed_once(make: Make) -> None:
    group = make()
    rows = pool_rows()
    rows["lv"][1] = lv_row("catalog")
    make.programs.answer("lvm.fullreport", report({"vg": [vg_row()], "pv": [pv_row()], **rows}))
    group.catalog_formatted()
    group.catalog_formatted()
    assert make.programs.changes() == [["lvchange", "--deltag", "thinpool-csi.fresh", "thinpool-abcdefghij/catalog"]]


def test_when_full_is_changed_only_where_it_differs(make: Make) -> None:
    group = make(pool={"lv_when_full": "error"})
    group.set_when_full(WhenFull.ERROR)
    assert make.programs.calls == []
    make().set_when_full(WhenFull.ERROR)
    assert make.programs.changes() == [["lvchange", "--errorwhenfull", "y", POOL]]


def test_a_vanished_group_is_unavailable_and_a_vanished_volume_is_data_loss(make: Make) -> None:
    group = make(without="pool")
    with pytest.raises(DataLossError, match="logical volume pool is gone"):
        group.activate()
    make.programs.answer("lvm.fullreport", report())
    with pytest.raises(UnavailableError, match="not on its disks"):
        group.refresh()


def test_a_half_made_pool_is_not_used_but_finished_from_the_start(make: Make) -> None:
    group = make(without="pool", vg_tags=CREATING)
    assert not group.complete
    with pytest.raises(StateError, match="interrupted"):
        group.activate()
    group.finish()
    changes = make.programs.changes()
    assert [words[0] for words in changes] == [
        *("lvremove", "lvcreate", "lvcreate", "lvcreate", "lvconvert", "vgchange")
    ]
    assert changes[-1] == ["vgchange", "--deltag", "thinpool-csi.creating", "thinpool-abcdefghij"]
    convert = changes[-2]
    assert convert[convert.index("--zero") + 1] == "y"
    assert convert[convert.index("--errorwhenfull") + 1] == "n"
    assert convert[convert.index("--chunksize") + 1] == "65536b"
    assert "--addtag thinpool-csi.fresh" in " ".join(changes[1])


def test_a_pool_made_but_for_its_last_step_is_kept(make: Make) -> None:
    make(vg_tags=CREATING).finish()
    assert [words[0] for words in make.programs.changes()] == ["vgchange"]


def test_the_intent_is_durable_until_it_is_cleared(make: Make, tmp_path: Path) -> None:
    assert make.intent.load() == frozenset()
    make.intent.save(["b", "a"])
    assert Intent(tmp_path, "fast").load() == {"a", "b"}
    assert Intent(tmp_path, "other").load() == frozenset()
    make.intent.clear()
    make.intent.clear()
    assert make.intent.load() == frozenset()


@pytest.mark.parametrize("text", ["", "[]", '{"pvs": 3}', "\0"])
def test_an_intent_that_cannot_be_read_is_an_error(text: str, make: Make, tmp_path: Path) -> None:
    make.intent.save([])
    (tmp_path / "lvm" / "creating-fast.json").write_text(text)
    with pytest.raises(StateError, match="not an intent"):
        make.intent.load()
