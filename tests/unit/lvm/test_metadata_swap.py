"""The metadata of an inactive pool and its draft: what is taken, what is removed, and what never is."""

import pytest

from csi.errors import NoSpaceError
from csi.lvm.metadata_swap import MetadataSwap
from csi.lvm.runner import Lvm
from csi.lvm.values import parse_report
from csi.units import GIB, MIB, Bytes
from tests.unit.lvm.conftest import Programs, lv_row, pool_rows, pv_row, report, vg_row

VG = "thinpool-abcdefghij"
SIZE = Bytes(100 * MIB)
INACTIVE = {"lv_active": "", "lv_kernel_minor": "-1"}
DRAFT = {"lv_tags": "thinpool-csi.draft"}


def make(programs: Programs, *more: dict[str, str], free: int = 200, active: bool = False) -> MetadataSwap:
    """Make one over a fake lvm that reports, besides the pool's LVs, those of ``more``."""
    rows = pool_rows()
    rows["lv"] = [row if active else row | INACTIVE for row in rows["lv"]] + list(more)
    text = report({"vg": [vg_row()], "pv": [pv_row(pv_free=str(free * MIB))], **rows})
    programs.answer("lvm.fullreport", text)
    lvm = Lvm(["/dev/sdb"], "thinpool-csi.node-a", path=programs.path)
    return MetadataSwap(lvm, parse_report(text).groups[0])


def test_the_metadata_is_activated_by_itself_and_what_was_left_half_done_is_taken_away(programs: Programs) -> None:
    swap = make(programs, lv_row("old-metadata-1"), lv_row("old-metadata-2", **DRAFT), active=True)
    assert swap.open() == "/dev/dm-0"
    assert programs.changes() == [
        ["lvchange", "--yes", "--activate", "n", f"{VG}/pool_tmeta"],
        ["lvchange", "--yes", "--activate", "n", f"{VG}/old-metadata-2"],
        ["lvremove", "--yes", f"{VG}/old-metadata-2"],
        ["lvchange", "--yes", "--activate", "y", f"{VG}/pool_tmeta"],
        ["lvchange", "--yes", "--activate", "y", f"{VG}/catalog"],
    ]


def test_a_draft_has_a_name_that_was_never_used_and_says_what_it_is(programs: Programs) -> None:
    swap = make(programs, lv_row("old-metadata-7"), lv_row("old-metadata-x"))
    programs.answer("lvm.lvcreate")
    with pytest.raises(KeyError):
        # The fake reports no new LV.
        swap.draft(SIZE)
    (made,) = programs.changes()
    assert made[:6] == ["lvcreate", "--yes", "--name", "old-metadata-8", "--extents", "25"]
    assert made[6:8] == ["--addtag", "thinpool-csi.draft"]


def test_where_too_little_is_free_the_spare_is_taken(programs: Programs) -> None:
    swap = make(programs, lv_row("lvol0_pmspare", lv_size=str(SIZE)), free=8)
    with pytest.raises(KeyError):
        swap.draft(SIZE)
    assert programs.changes()[0] == ["lvremove", "--yes", f"{VG}/lvol0_pmspare"]


def test_where_even_that_is_too_little_nothing_is_touched(programs: Programs) -> None:
    swap = make(programs, lv_row("lvol0_pmspare", lv_size=str(SIZE)), free=8)
    with pytest.raises(NoSpaceError, match="name one more disk"):
        swap.draft(Bytes(SIZE + 12 * MIB))
    with pytest.raises(NoSpaceError, match=r"15\.8 GiB"):
        swap.draft(Bytes(16 * GIB))
    assert programs.changes() == []


def test_what_is_to_be_the_old_metadata_is_no_draft_any_more_before_the_swap(programs: Programs) -> None:
    swap = make(programs, lv_row("old-metadata-1", **INACTIVE, **DRAFT))
    assert swap.swap() == "old-metadata-1"
    assert programs.changes() == [
        ["lvchange", "--deltag", "thinpool-csi.draft", f"{VG}/old-metadata-1"],
        ["lvconvert", "--yes", "--thinpool", f"{VG}/pool", "--poolmetadata", f"{VG}/old-metadata-1"],
    ]
