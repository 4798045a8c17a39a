"""The division of a pool's space, as arithmetic."""

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from csi.errors import SizeError
from csi.lvm.layout import (
    CATALOG,
    CATALOG_MINIMUM,
    EXTENT,
    METADATA_MAXIMUM,
    METADATA_MINIMUM,
    PoolSizes,
    Room,
    data_step,
    direct_room,
    direct_sizes,
    loop_room,
    loop_sizes,
    metadata_step,
    no_extension_room,
)
from csi.units import GIB, MIB, TIB, Bytes

_extents = st.integers(min_value=0, max_value=64 * TIB // EXTENT).map(lambda count: Bytes(count * EXTENT))
_percents = st.integers(min_value=1, max_value=100)


def test_dockers_percentages_on_a_disk_of_100_gib() -> None:
    total = Bytes(100 * GIB - EXTENT)
    sizes = direct_sizes(total, 95, 1, 20)
    assert sizes == PoolSizes(data=Bytes(24319 * EXTENT), metadata=Bytes(255 * EXTENT), catalog=CATALOG)
    free = Bytes(total - sizes.data - 2 * sizes.metadata - sizes.catalog)
    assert 0.028 < free / total < 0.029
    room = direct_room(free, sizes.metadata, 20)
    assert room.data == free - 2 * 51 * EXTENT
    assert no_extension_room(room, sizes.data, 20)


def test_a_percentage_below_dockers_leaves_room() -> None:
    total = Bytes(100 * GIB)
    sizes = direct_sizes(total, 70, 1, 20)
    free = Bytes(total - sizes.data - 2 * sizes.metadata - sizes.catalog)
    assert not no_extension_room(direct_room(free, sizes.metadata, 20), sizes.data, 20)


def test_on_a_small_disk_the_catalog_shrinks_and_data_yields() -> None:
    sizes = direct_sizes(Bytes(252 * MIB), 95, 1, 20)
    assert sizes == PoolSizes(data=Bytes(140 * MIB), metadata=METADATA_MINIMUM, catalog=CATALOG_MINIMUM)
    assert direct_room(Bytes(16 * MIB), sizes.metadata, 20) == Room(Bytes(0), Bytes(8 * MIB))


def test_metadata_never_exceeds_what_the_kernel_uses() -> None:
    assert direct_sizes(Bytes(100 * TIB), 95, 1, 20).metadata == METADATA_MAXIMUM
    assert METADATA_MAXIMUM <= 15.8 * GIB
    assert direct_room(Bytes(TIB), METADATA_MAXIMUM, 20) == Room(Bytes(TIB), Bytes(0))
    assert metadata_step(METADATA_MAXIMUM, 20) == 0
    assert metadata_step(Bytes(METADATA_MAXIMUM - EXTENT), 20) == EXTENT


@given(
    total=_extents,
    percent=st.floats(min_value=1, max_value=99.5),
    meta=st.floats(min_value=0.01, max_value=50),
    step=_percents,
)
def test_a_new_direct_pool_fits_and_its_metadata_can_be_extended(
    total: Bytes, percent: float, meta: float, step: int
) -> None:
    assume(percent + 2 * meta <= 100)
    try:
        sizes = direct_sizes(total, percent, meta, step)
    except SizeError:
        assume(total < GIB or percent + 2 * meta < 100)
        return
    used = sizes.data + 2 * sizes.metadata + sizes.catalog
    assert used <= total
    assert all(size % EXTENT == 0 for size in (sizes.data, sizes.metadata, sizes.catalog))
    assert sizes.data <= total * percent / 100 + 1
    assert METADATA_MINIMUM <= sizes.metadata <= METADATA_MAXIMUM
    assert CATALOG_MINIMUM <= sizes.catalog <= CATALOG
    room = direct_room(Bytes(total - used), sizes.metadata, step)
    assert room.metadata >= metadata_step(sizes.metadata, step)
    # Whatever data takes of its room, the metadata's step stays.
    after = direct_room(Bytes(total - used - room.data), sizes.metadata, step)
    assert after == Room(Bytes(0), after.metadata)
    assert after.metadata >= metadata_step(sizes.metadata, step)


@given(total=st.integers(min_value=256 * MIB // EXTENT - 1, max_value=64 * TIB // EXTENT))
def test_dockers_percentages_fit_every_disk_that_is_taken(total: int) -> None:
    assert direct_sizes(Bytes(total * EXTENT), 95, 1, 20).data >= total * EXTENT // 2


@given(data=_extents, metadata=_extents)
def test_a_new_loop_pool_fits_its_two_files(data: Bytes, metadata: Bytes) -> None:
    try:
        sizes = loop_sizes(data, metadata)
    except SizeError:
        assert data < 64 * MIB or metadata < 156 * MIB
        return
    assert sizes.data == data
    left = Bytes(metadata - 2 * sizes.metadata - sizes.catalog)
    assert left >= 0
    assert METADATA_MINIMUM <= sizes.metadata <= METADATA_MAXIMUM
    assert loop_room(Bytes(0), left, sizes.metadata).data == 0


def test_the_smallest_and_the_default_loop_files_do() -> None:
    """What the settings allow: 256Mi and 160Mi, less what LVM takes of each; and Docker's 100GiB and 2GiB."""
    assert loop_sizes(Bytes(252 * MIB), Bytes(156 * MIB)).metadata == 48 * MIB
    default = loop_sizes(Bytes(100 * GIB - EXTENT), Bytes(2 * GIB - EXTENT))
    assert (default.data, default.catalog) == (100 * GIB - EXTENT, CATALOG)
    assert default.metadata > 700 * MIB


@pytest.mark.parametrize(("free", "expected"), [(0, 0), (EXTENT, 0), (2 * EXTENT, EXTENT), (5 * EXTENT, 2 * EXTENT)])
def test_metadata_grows_by_half_of_what_is_free_for_its_spare_grows_too(free: int, expected: int) -> None:
    assert direct_room(Bytes(free), METADATA_MINIMUM, 20).metadata == expected


@given(size=_extents, percent=_percents)
def test_a_step_is_the_percentage_in_whole_extents(size: Bytes, percent: int) -> None:
    step = data_step(size, percent)
    assert step % EXTENT == 0
    assert size * percent / 100 <= step < size * percent / 100 + EXTENT + 1
