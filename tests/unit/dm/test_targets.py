"""Tables and status lines parse, print what they parsed, and refuse everything else."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from csi.dm.targets import (
    Discards,
    Line,
    Linear,
    PoolMode,
    Thin,
    ThinPoolStatus,
    ThinPoolTable,
    ThinStatus,
)
from csi.units import KIB, Blocks, Bytes, Sectors

_count = st.integers(0, 2**63)
_device = st.builds("{}:{}".format, st.integers(0, 4095), st.integers(0, 2**20 - 1))
_path = st.just("/dev/loop0")
_sectors = st.builds(Sectors, _count)
_blocks = st.builds(Blocks, _count)

_linear = st.builds(Linear, _sectors, _device | _path, _sectors, _sectors)
_thin = st.builds(
    Thin, st.builds(Bytes, st.integers(0, 2**53).map(lambda n: n * 512)), _device, st.integers(0, 2**24 - 1)
)
_pool = st.builds(
    ThinPoolTable,
    _sectors,
    _device,
    _device,
    st.builds(Bytes, st.integers(1, 16384).map(lambda n: n * 64 * KIB)),
    _blocks,
    st.booleans(),
    st.sampled_from(Discards),
    st.booleans(),
    st.booleans(),
)
_status = st.builds(
    ThinPoolStatus,
    st.sampled_from([mode for mode in PoolMode if mode is not PoolMode.FAIL]),
    _count,
    _count,
    _count,
    _blocks,
    _blocks,
    st.none() | _count,
    st.sampled_from(Discards),
    st.booleans(),
    st.booleans(),
    st.none() | _count,
)


@given(_linear)
def test_linear_round_trip(value: Linear) -> None:
    assert Linear.parse(value.line()) == value


@given(_thin)
def test_thin_round_trip(value: Thin) -> None:
    assert Thin.parse(value.line()) == value


@given(_pool)
def test_thin_pool_round_trip(value: ThinPoolTable) -> None:
    assert ThinPoolTable.parse(value.line()) == value


@given(_status)
def test_pool_status_round_trip(value: ThinPoolStatus) -> None:
    assert ThinPoolStatus.parse(_pool_line(_print_status(value))) == value


@given(st.integers(0, 2**60), st.none() | st.integers(0, 2**60))
def test_thin_status_round_trip(mapped: int, highest: int | None) -> None:
    line = Line(Sectors(0), Sectors(8), "thin", f"{mapped} {'-' if highest is None else highest}")
    assert ThinStatus.parse(line) == ThinStatus(Sectors(mapped), None if highest is None else Sectors(highest))


def test_a_status_as_linux_6_1_prints_it() -> None:
    text = "1 218/2048 384/768 - rw discard_passdown queue_if_no_space - 512 "
    assert ThinPoolStatus.parse(_pool_line(text)) == ThinPoolStatus(
        mode=PoolMode.READ_WRITE,
        transaction_id=1,
        metadata_used=218,
        metadata_total=2048,
        data_used=Blocks(384),
        data_total=Blocks(768),
        held_root=None,
        discards=Discards.PASSDOWN,
        queue_if_no_space=True,
        needs_check=False,
        metadata_low_water=512,
    )


def test_a_table_as_linux_6_1_prints_it() -> None:
    table = ThinPoolTable.parse(_pool_line("254:0 254:1 128 0 0 "))
    assert table == ThinPoolTable(Sectors(8), "254:0", "254:1", Bytes(64 * KIB), Blocks(0))
    table = ThinPoolTable.parse(_pool_line("254:0 254:1 128 20 3 skip_block_zeroing ignore_discard error_if_no_space "))
    assert (table.zeroing, table.discards, table.error_if_no_space) == (False, Discards.IGNORE, True)


@pytest.mark.parametrize("text", ["Fail", "Error"])
def test_a_failed_pool_has_a_status_without_figures(text: str) -> None:
    status = ThinPoolStatus.parse(_pool_line(text))
    assert status == ThinPoolStatus(PoolMode.FAIL)
    assert not status.serves


@pytest.mark.parametrize("text", ["Fail", "Error", "-"])
def test_a_thin_device_of_a_failed_pool_is_not_an_empty_one(text: str) -> None:
    assert ThinStatus.parse(Line(Sectors(0), Sectors(8), "thin", text)) is None


@pytest.mark.parametrize(
    ("mode", "needs_check", "serves", "healthy"),
    [
        (PoolMode.READ_WRITE, False, True, True),
        (PoolMode.READ_WRITE, True, False, False),
        (PoolMode.OUT_OF_DATA_SPACE, False, True, False),
        (PoolMode.READ_ONLY, False, False, False),
        (PoolMode.FAIL, False, False, False),
    ],
)
def test_what_a_mode_allows(mode: PoolMode, needs_check: bool, serves: bool, healthy: bool) -> None:
    status = ThinPoolStatus(mode, needs_check=needs_check)
    assert (status.serves, status.healthy) == (serves, healthy)


@pytest.mark.parametrize(
    "params",
    [
        "",
        "1 2/3 4/5 - rw discard_passdown queue_if_no_space",
        "1 2/3 4/5 - rw discard_passdown queue_if_no_space - 5 6",
        "1 2 4/5 - rw discard_passdown queue_if_no_space - 5",
        "1 2/3 4/5 - xx discard_passdown queue_if_no_space - 5",
        "1 2/3 4/5 - rw discards queue_if_no_space - 5",
        "1 2/3 4/5 - rw discard_passdown queue - 5",
        "1 2/3 4/5 - rw discard_passdown queue_if_no_space maybe 5",
        "-1 2/3 4/5 - rw discard_passdown queue_if_no_space - 5",
        "254:0 254:1 128",
        "254:0 254:1 128 0 2 ignore_discard",
        "254:0 254:1 128 0 1 unheard_of",
        "254:0 254:1 128 0 2 ignore_discard ignore_discard",
        "254:0 x 128 0 0",
    ],
)
def test_another_form_of_line_is_shown_and_refused(params: str) -> None:
    line = _pool_line(params)
    for parse in (ThinPoolStatus.parse, ThinPoolTable.parse):
        with pytest.raises(ValueError, match="thin-pool"):
            parse(line)


@given(st.sampled_from(["linear", "thin", "thin-pool", "striped"]), st.text() | st.from_regex(r"[0-9:/ -]{0,30}"))
def test_no_line_raises_anything_but_valueerror(kind: str, params: str) -> None:
    line = Line(Sectors(0), Sectors(8), kind, params)
    for parse in (Linear.parse, Thin.parse, ThinPoolTable.parse, ThinPoolStatus.parse, ThinStatus.parse):
        with contextlib.suppress(ValueError):
            parse(line)


def test_a_thin_device_with_an_external_origin_is_not_ours() -> None:
    with pytest.raises(ValueError, match="not understood: 0 8 thin 254:2 1 254:7"):
        Thin.parse(Line(Sectors(0), Sectors(8), "thin", "254:2 1 254:7"))


def test_a_size_of_half_a_sector_is_refused() -> None:
    with pytest.raises(ValueError, match="sectors"):
        Thin(Bytes(700), "254:0", 1).line()


def _pool_line(params: str) -> Line:
    return Line(Sectors(0), Sectors(8), "thin-pool", params)


def _print_status(value: ThinPoolStatus) -> str:
    words = [
        str(value.transaction_id),
        f"{value.metadata_used}/{value.metadata_total}",
        f"{value.data_used}/{value.data_total}",
        "-" if value.held_root is None else str(value.held_root),
        value.mode,
        value.discards,
        "queue_if_no_space" if value.queue_if_no_space else "error_if_no_space",
        "needs_check" if value.needs_check else "-",
        *([] if value.metadata_low_water is None else [str(value.metadata_low_water)]),
    ]
    # The kernel leaves a blank at the end.
    return " ".join(words) + " "
