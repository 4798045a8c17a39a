"""Reports of LVM's, read as values."""

import contextlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from csi.lvm.values import parse_doubled, parse_report
from csi.units import KIB, MIB
from tests.unit.lvm.conftest import lv_row, pool_rows, pv_row, report, vg_row


def test_a_group_has_its_disks_volumes_and_tags() -> None:
    text = report({"vg": [vg_row()], "pv": [pv_row(), pv_row("/dev/sdc", pv_missing="missing")], **pool_rows()})
    [group] = parse_report(text).groups
    assert (group.name, group.system_id) == ("thinpool-abcdefghij", "thinpool-csi.node-a")
    assert group.tag("thinpool-csi.id") == "abcdefghij"
    assert group.tag("thinpool-csi") == ""
    assert (group.size, group.free) == (2559 * 4 * MIB, 53 * 4 * MIB)
    assert [(disk.name, disk.number, disk.missing) for disk in group.disks] == [
        ("/dev/sdb", "8:16", False),
        ("/dev/sdc", "8:16", True),
    ]
    pool = group.volumes["pool"]
    assert pool.is_thin_pool
    assert (pool.chunk_size, pool.minor, pool.when_full) == (64 * KIB, 2, "queue")
    assert not group.volumes["catalog"].is_thin_pool
    assert group.volumes["catalog"].tags == {"thinpool-csi.fresh"}


def test_a_disk_in_no_group_is_loose() -> None:
    found = parse_report(report({"pv": [pv_row(pv_in_use="")]}, {"vg": [vg_row()], "pv": [pv_row()], **pool_rows()}))
    assert [(disk.name, disk.in_use) for disk in found.loose] == [("/dev/sdb", False)]
    assert len(found.groups) == 1
    assert parse_report(report()).groups == ()


@pytest.mark.parametrize(
    ("fields", "health", "check_needed", "active"),
    [
        ({}, "", False, True),
        ({"lv_active": ""}, "", False, False),
        (
            {"lv_check_needed": "check needed", "lv_health_status": "metadata_read_only"},
            "metadata_read_only",
            True,
            True,
        ),
        ({"lv_health_status": "failed", "lv_check_needed": "unknown"}, "failed", False, True),
    ],
)
def test_an_active_pool_tells_its_health(
    fields: dict[str, str], health: str, *, check_needed: bool, active: bool
) -> None:
    [group] = parse_report(report({"vg": [vg_row()], "pv": [], "lv": [lv_row("pool", **fields)]})).groups
    volume = group.volumes["pool"]
    assert (volume.health, volume.check_needed, volume.active) == (health, check_needed, active)


@pytest.mark.parametrize(
    "text", ["", "[]", "null", '{"report": 5}', '{"report": [{"vg": [{}]}]}', '{"report": [null]}', "[" * 6000]
)
def test_anything_else_is_a_value_error(text: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        parse_report(text)


def test_disks_that_are_there_twice_are_named_by_uuid() -> None:
    rows = [{"pv_uuid": "a", "pv_duplicate": ""}, {"pv_uuid": "b", "pv_duplicate": "duplicate"}]
    assert parse_doubled(report({"pv": rows})) == {"b"}
    assert parse_doubled(report()) == frozenset()
    for text in ("", "[]", '{"report": [{}]}', '{"report": [{"pv": [5]}]}', "[" * 6000):
        with pytest.raises(ValueError, match=r".+"):
            parse_doubled(text)


def test_a_size_that_is_no_number_is_named() -> None:
    with pytest.raises(ValueError, match="vg_free_count is 'x'"):
        parse_report(report({"vg": [vg_row(vg_free_count="x")], "pv": []}))


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["report", "vg", "pv", "lv"]), inner),
)


@given(st.text() | _json.map(json.dumps))
def test_no_text_gives_another_error(text: str) -> None:
    with contextlib.suppress(ValueError):
        parse_report(text)


@given(st.dictionaries(st.sampled_from(sorted(vg_row() | pv_row())), st.text(max_size=5) | st.integers(), max_size=4))
def test_no_row_gives_another_error(fields: dict[str, str]) -> None:
    with contextlib.suppress(ValueError):
        parse_report(report({"vg": [vg_row() | fields], "pv": [pv_row() | fields], **pool_rows()}))
