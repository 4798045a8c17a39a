"""How LVM is called."""

import pytest

from csi.errors import CommandError
from csi.lvm.runner import Lvm, system_id
from tests.unit.lvm.conftest import Programs, bare, pool_rows, pv_row, report, vg_row


def _lvm(programs: Programs, **options: int) -> Lvm:
    return Lvm(["/dev/sdb", "/dev/sdc"], "thinpool-csi.node-a", path=programs.path, **options)


def _config(call: list[str]) -> str:
    return call[call.index("--config") + 1]


def test_each_command_sees_the_disks_given_and_no_configuration_of_the_hosts(programs: Programs) -> None:
    programs.answer("lvm", "said")
    assert _lvm(programs).run("vgchange", "--deltag", "x", "vg") == "said"
    [call] = programs.calls
    assert call[:6] == ["lvm", "vgchange", "--devices", "/dev/sdb", "--devices", "/dev/sdc"]
    assert call.count("--config") == 1
    assert bare(call) == ["vgchange", "--deltag", "x", "vg"]
    assert call[-1] == "LVM_SYSTEM_DIR="


def test_each_command_carries_all_settings_that_end_up_in_a_pools_table(programs: Programs) -> None:
    _lvm(programs).run("vgs")
    config = _config(programs.calls[0])
    for setting in (
        "thin_pool_autoextend_threshold=80",
        "monitoring=0",
        "udev_sync=0",
        "backup=0 archive=0",
        'thin_check_options=["-q"]',
        'system_id_source="lvmlocal"',
        'local{system_id="thinpool-csi.node-a"}',
        "zero_metadata=1",
    ):
        assert setting in config


def test_the_pools_event_comes_also_where_extension_is_switched_off(programs: Programs) -> None:
    for threshold in (60, 100):
        _lvm(programs, threshold=threshold).run("vgs")
    shown = [_config(call) for call in programs.calls]
    assert "thin_pool_autoextend_threshold=60" in shown[0]
    assert "thin_pool_autoextend_threshold=95" in shown[1]


def test_what_is_out_of_the_ordinary_is_asked_for_command_by_command(programs: Programs) -> None:
    lvm = _lvm(programs)
    lvm.run("vgchange", acting_for="thinpool-csi.node-b")
    lvm.run("lvchange", clear_needs_check=True)
    lvm.run("lvconvert", zero_metadata=False)
    foreign, check, zero = (_config(call) for call in programs.calls)
    assert 'local{system_id="thinpool-csi.node-a" extra_system_ids=["thinpool-csi.node-b"]}' in foreign
    assert 'thin_check_options=["-q","--clear-needs-check-flag"]' in check
    assert "zero_metadata=0" in zero


def test_an_error_says_what_lvm_said_without_its_refrain(programs: Programs) -> None:
    refrain = "  WARNING: Metadata changes will NOT be backed up\n"
    programs.answer("lvm", stderr=f"{refrain}  No space.\n  Sorry.\n{refrain}", status=5)
    with pytest.raises(CommandError) as caught:
        _lvm(programs).run("lvextend", "vg/pool")
    assert str(caught.value) == "run lvm lvextend vg/pool: exit status 5: No space.; Sorry."


def test_a_command_that_hangs_ends_at_its_deadline(programs: Programs) -> None:
    with open(f"{programs.path}/lvm", "a") as program:
        program.write("exec /bin/sleep 60\n")
    with pytest.raises(CommandError, match=r"run lvm vgck vg: no answer within 0.2 s"):
        _lvm(programs).run("vgck", "vg", deadline=0.2)


def test_without_lvm_the_error_says_so() -> None:
    with pytest.raises(CommandError, match="ENOENT"):
        Lvm([], "x", path="/nowhere").run("vgs")


def test_a_report_is_one_command_and_shows_foreign_groups(programs: Programs) -> None:
    programs.answer("lvm", report({"vg": [vg_row()], "pv": [pv_row()], **pool_rows()}))
    assert [group.name for group in _lvm(programs).report("vg").groups] == ["thinpool-abcdefghij"]
    [call] = programs.calls
    assert bare(call)[:3] == ["fullreport", "--all", "--foreign"]
    assert bare(call)[-1] == "vg"


def test_a_report_that_is_none_is_an_error(programs: Programs) -> None:
    programs.answer("lvm", "nonsense")
    with pytest.raises(CommandError, match="read report"):
        _lvm(programs).report()


def test_two_nodes_never_have_one_system_id() -> None:
    assert system_id("node-1.example") == "thinpool-csi.node-1.example"
    hard = ["a" * 200, "a" * 201, "knoten/1", "knoten-1", "knötchen", "", "-"]
    ids = [system_id(name) for name in hard]
    assert len(set(ids)) == len(ids)
    assert all(len(found) <= 128 for found in ids)
    assert all(
        character.isascii() and (character.isalnum() or character in "._-") for found in ids for character in found
    )
