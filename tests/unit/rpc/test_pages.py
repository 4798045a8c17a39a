"""Lists in pages, whatever comes and goes between two of them."""

from hypothesis import given
from hypothesis import strategies as st

from csi.model import THIN_ID_LIMIT, Handle, PoolId, ThinId
from csi.rpc.pages import Page

HANDLES = st.builds(
    Handle, st.sampled_from([PoolId("aaaaaaaaaa"), PoolId("zzzzzzzzz7")]), st.integers(1, THIN_ID_LIMIT - 1).map(ThinId)
)


@given(
    st.sets(HANDLES, max_size=40),
    st.lists(st.tuples(st.sets(HANDLES, max_size=3), st.integers(0, 10)), min_size=1),
    st.integers(1, 7),
)
def test_what_stays_is_listed_once_and_in_order(
    held: set[Handle], changes: list[tuple[set[Handle], int]], size: int
) -> None:
    stays = set(held)
    now = set(held)
    listed: list[Handle] = []
    token = ""
    rounds = 0
    while True:
        page, token = Page.read("x", size, token).cut(sorted(now), lambda each: each)
        assert len(page) <= size
        listed += page
        if not token:
            break
        added, drop = changes[rounds % len(changes)] if rounds < 50 else (set(), 0)
        gone = set(sorted(now)[drop : drop + 2]) if drop else set()
        now = (now | added) - gone
        stays -= gone
        rounds += 1
    assert listed == sorted(set(listed))
    assert stays <= set(listed)
