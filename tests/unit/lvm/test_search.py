"""Which of the groups on a pool's disks is its own."""

import pytest

from csi.errors import ForeignPoolError, StateError, UnavailableError
from csi.lvm.runner import Lvm
from csi.lvm.search import check_disks, choose, take_over
from csi.lvm.values import VolumeGroup, parse_report
from csi.model import PoolId
from csi.settings import PoolSpec
from tests.unit.lvm.conftest import Programs, pv_row, report, vg_row

OURS = "thinpool-csi.node-a"
SPEC = PoolSpec("fast", devices=("/dev/sdb",))


def _group(pool_id: str = "abcdefghij", pool: str = "fast", owner: str = OURS, **disk: str) -> VolumeGroup:
    tags = f"thinpool-csi.dev,thinpool-csi.id={pool_id},thinpool-csi.pool={pool}"
    row = vg_row(vg_name=f"thinpool-{pool_id}", vg_tags=tags, vg_systemid=owner)
    return parse_report(report({"vg": [row], "pv": [pv_row(**disk)]})).groups[0]


def _adopting(*ids: str) -> PoolSpec:
    return PoolSpec("fast", devices=("/dev/sdb",), adopt=frozenset(map(PoolId, ids)))


def test_ours_is_chosen_by_pool_name_and_owner() -> None:
    ours, other = _group(), _group("bbbbbbbbbb", pool="slow")
    assert choose(SPEC, OURS, [other, ours]) == ours
    assert choose(SPEC, OURS, [other]) is None
    assert choose(SPEC, OURS, []) is None


def test_a_group_without_our_tags_is_nobodys_pool() -> None:
    [group] = parse_report(report({"vg": [vg_row(vg_tags="thinpool-csi.pool=fast")], "pv": []})).groups
    assert choose(SPEC, OURS, [group]) is None
    assert choose(SPEC, OURS, [_group("not-an-id")]) is None


@pytest.mark.parametrize("owner", ["thinpool-csi.node-b", ""])
def test_a_foreign_pool_is_an_error_until_it_is_named(owner: str) -> None:
    foreign = _group(owner=owner)
    for spec in (SPEC, _adopting("cccccccccc")):
        with pytest.raises(ForeignPoolError, match="abcdefghij of"):
            choose(spec, OURS, [foreign])
    assert choose(_adopting("abcdefghij"), OURS, [foreign]) == foreign


def test_our_own_pool_is_preferred_to_any_other() -> None:
    ours, foreign = _group(), _group("bbbbbbbbbb", owner="thinpool-csi.node-b")
    assert choose(_adopting("bbbbbbbbbb"), OURS, [foreign, ours]) == ours


def test_several_are_not_chosen_between() -> None:
    with pytest.raises(StateError, match="abcdefghij, bbbbbbbbbb"):
        choose(SPEC, OURS, [_group(), _group("bbbbbbbbbb")])


def test_taking_over_changes_the_owner_first_and_only_what_differs(programs: Programs) -> None:
    lvm = Lvm(["/dev/sdb"], OURS, path=programs.path)
    assert not take_over(SPEC, lvm, _group())
    assert programs.calls == []
    assert take_over(SPEC, lvm, _group(pool="slow", owner="thinpool-csi.node-b"))
    retagging = ("--deltag", "thinpool-csi.pool=slow", "--addtag", "thinpool-csi.pool=fast")
    assert programs.changes() == [
        ["vgchange", "--yes", "--systemid", OURS, "thinpool-abcdefghij"],
        ["vgchange", *retagging, "thinpool-abcdefghij"],
    ]
    assert 'extra_system_ids=["thinpool-csi.node-b"]' in " ".join(programs.calls[0])
    programs.forget()
    # Cut short between the two, it is found by its id again and the second is made up for.
    half = _group(pool="slow")
    assert choose(_adopting("abcdefghij"), OURS, [half]) == half
    assert take_over(SPEC, lvm, half)
    assert len(programs.calls) == 1


def test_missing_and_doubled_disks_are_named() -> None:
    check_disks("fast", _group())
    with pytest.raises(UnavailableError, match="PV uuid-/dev/sdb"):
        check_disks("fast", _group(pv_missing="missing"))
    with pytest.raises(StateError, match="two devices"):
        check_disks("fast", _group(), frozenset({"uuid-/dev/sdb"}))
