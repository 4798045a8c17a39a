"""The plan for a pool: what is done, in which order, and never more than that."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from csi.agent.plan import DropBallast, ExtendData, ExtendMetadata, Look, RefillBallast, plan
from csi.dm.targets import PoolMode
from csi.settings import Autoextend
from csi.units import KIB, MIB, Blocks, Bytes
from csi.volumes.pool import METADATA_BLOCK
from csi.volumes.reports import PoolSpace

_AUTO = Autoextend(80, 20)
_BLOCK = Bytes(64 * KIB)
_FREE = 10

_totals = st.integers(1, 1 << 30)


@st.composite
def _used_of(draw: st.DrawFn) -> tuple[int, int]:
    total = draw(_totals)
    return draw(st.integers(0, total)), total


@st.composite
def _spaces(draw: st.DrawFn) -> PoolSpace:
    data, metadata = draw(_used_of()), draw(_used_of())
    return PoolSpace(
        data_used=Blocks(data[0]),
        data_total=Blocks(data[1]),
        extendable=Blocks(draw(st.just(0) | _totals)),
        metadata_used=metadata[0],
        metadata_total=metadata[1],
        metadata_extendable=draw(st.just(0) | _totals),
    )


_looks = st.builds(
    Look,
    mode=st.sampled_from(PoolMode),
    needs_check=st.booleans(),
    space=_spaces(),
    block_size=st.integers(1, 64).map(lambda n: Bytes(n * _BLOCK)),
    ballast=st.integers(0, 1 << 30).map(Bytes),
    ballast_wanted=st.integers(0, 1 << 30).map(Bytes),
    freeze_stuck=st.booleans(),
)
_autoextends = st.builds(Autoextend, st.integers(50, 100), st.integers(1, 100))
_free_shares = st.integers(0, 90)


def _look(
    data: tuple[int, int] = (0, 1000),
    metadata: tuple[int, int] = (0, 1000),
    *,
    room: tuple[int, int] = (1000, 1000),
    mode: PoolMode = PoolMode.READ_WRITE,
    ballast: int = 0,
) -> Look:
    """Return a look at a pool in which all is well unless said otherwise; it wants no ballast."""
    space = PoolSpace(Blocks(data[0]), Blocks(data[1]), Blocks(room[0]), *metadata, room[1])
    return Look(mode, needs_check=False, space=space, block_size=_BLOCK, ballast=Bytes(ballast),
                ballast_wanted=Bytes(ballast), freeze_stuck=False)  # fmt: skip


def test_nothing_is_done_below_the_threshold_and_a_step_is_at_it() -> None:
    assert plan(_look((799, 1000)), _AUTO, _FREE) == []
    assert plan(_look((800, 1000)), _AUTO, _FREE) == [ExtendData(Bytes(200 * _BLOCK))]
    assert plan(_look(metadata=(799, 1000)), _AUTO, _FREE) == []
    assert plan(_look(metadata=(800, 1000)), _AUTO, _FREE) == [ExtendMetadata(Bytes(200 * METADATA_BLOCK))]


def test_metadata_comes_first() -> None:
    steps = plan(_look((900, 1000), (900, 1000)), _AUTO, _FREE)
    assert [type(step) for step in steps] == [ExtendMetadata, ExtendData]


def test_metadata_is_extended_in_a_pool_that_went_read_only_for_want_of_it() -> None:
    full = _look(metadata=(1000, 1000), mode=PoolMode.READ_ONLY)
    assert plan(full, _AUTO, _FREE) == [ExtendMetadata(Bytes(200 * METADATA_BLOCK))]


def test_a_full_pool_gets_its_ballast_only_when_it_cannot_be_extended() -> None:
    full = _look((1000, 1000), mode=PoolMode.OUT_OF_DATA_SPACE, ballast=int(MIB))
    assert plan(full, _AUTO, _FREE) == [ExtendData(Bytes(200 * _BLOCK))]
    assert plan(replace(full, freeze_stuck=True), _AUTO, _FREE) == [DropBallast()]
    roomless = replace(full, space=replace(full.space, extendable=Blocks(0)))
    assert plan(roomless, _AUTO, _FREE) == [DropBallast()]
    assert plan(replace(roomless, ballast=Bytes(0)), _AUTO, _FREE) == []


def test_a_full_pool_is_extended_whatever_its_counts_say() -> None:
    full = _look((100, 1000), mode=PoolMode.OUT_OF_DATA_SPACE)
    assert plan(full, _AUTO, _FREE) == [ExtendData(Bytes(200 * _BLOCK))]


def test_ballast_is_filled_again_where_there_is_plenty_of_room() -> None:
    empty = replace(_look(), ballast_wanted=Bytes(16 * MIB))
    assert plan(empty, _AUTO, _FREE) == [RefillBallast(Bytes(16 * MIB))]
    assert plan(replace(empty, ballast_wanted=Bytes(1 << 30)), _AUTO, 0) == []
    crowded = replace(empty, space=replace(empty.space, data_used=Blocks(790), extendable=Blocks(0)))
    assert plan(crowded, _AUTO, _FREE) == []


def test_a_pool_whose_owner_wants_no_extension_still_gets_its_ballast_when_it_is_full() -> None:
    full = _look((1000, 1000), mode=PoolMode.OUT_OF_DATA_SPACE, ballast=int(MIB))
    assert plan(full, Autoextend(100, 20), _FREE) == [DropBallast()]


@given(_looks, _autoextends, _free_shares)
def test_nothing_is_done_to_a_pool_that_must_be_checked_or_has_failed(
    look: Look, autoextend: Autoextend, share: int
) -> None:
    assert plan(replace(look, needs_check=True), autoextend, share) == []
    assert plan(replace(look, mode=PoolMode.FAIL), autoextend, share) == []


@given(_looks, _autoextends, _free_shares)
def test_no_step_is_empty_and_none_comes_twice(look: Look, autoextend: Autoextend, share: int) -> None:
    steps = plan(look, autoextend, share)
    assert len({type(step) for step in steps}) == len(steps)
    assert all(isinstance(step, DropBallast) or step.step > 0 for step in steps)


@given(_looks, _free_shares)
def test_at_100_percent_nothing_is_extended(look: Look, share: int) -> None:
    steps = plan(look, Autoextend(100, 20), share)
    assert not any(isinstance(step, ExtendData | ExtendMetadata) for step in steps)


@given(_looks, _autoextends, _free_shares)
def test_what_there_is_no_room_for_is_not_tried(look: Look, autoextend: Autoextend, share: int) -> None:
    none = replace(look, space=replace(look.space, extendable=Blocks(0), metadata_extendable=0))
    steps = plan(none, autoextend, share)
    assert not any(isinstance(step, ExtendData | ExtendMetadata) for step in steps)


@given(_looks, _autoextends, _free_shares)
def test_ballast_is_given_only_to_a_full_pool_and_filled_only_in_one_that_is_well(
    look: Look, autoextend: Autoextend, share: int
) -> None:
    for step in plan(look, autoextend, share):
        if isinstance(step, DropBallast):
            assert look.mode is PoolMode.OUT_OF_DATA_SPACE
        if isinstance(step, RefillBallast):
            assert look.mode is PoolMode.READ_WRITE
            assert look.ballast + step.step <= look.ballast_wanted


@given(_looks, _autoextends, _free_shares)
def test_ballast_does_not_bring_the_pool_below_its_minimum_free_share(
    look: Look, autoextend: Autoextend, share: int
) -> None:
    well = replace(look, mode=PoolMode.READ_WRITE, needs_check=False)
    space = well.space
    after = space.data_used + well.ballast_wanted // well.block_size
    whole = space.data_total + space.extendable
    if any(isinstance(step, RefillBallast) for step in plan(well, autoextend, share)):
        assert (whole - after) * 100 >= share * whole


@given(_looks, _autoextends, _free_shares)
def test_a_full_pool_that_holds_a_freeze_up_is_not_extended_behind_it(
    look: Look, autoextend: Autoextend, share: int
) -> None:
    assert not any(isinstance(step, ExtendData) for step in plan(replace(look, freeze_stuck=True), autoextend, share))
