"""What a node does about the pools that a cluster wants on it."""

from csi.agent.following import Following, follow
from csi.kube.thin_pool import Removal, Wanted
from csi.settings import PoolSpec

FAST = Wanted(PoolSpec("fast", devices=("/dev/sdb",)), 1)
BIG = Wanted(PoolSpec("big", devices=("/dev/sdc",)), 1)


def leaving(removal: Removal) -> Wanted:
    return Wanted(FAST.spec, 1, removal, leaving=True, made=True)


def test_what_is_wanted_is_served() -> None:
    assert follow([FAST, BIG], {"fast": False}, {}) == Following((), (), (FAST.spec, BIG.spec))


def test_what_is_not_wanted_any_more_is_taken_out_of_the_kernel() -> None:
    assert follow([BIG], {"fast": True, "big": True}, {}) == Following(("fast",), (), (BIG.spec,))


def test_a_leaving_pool_is_served_as_long_as_it_is_there() -> None:
    assert follow([leaving(Removal.KEEP)], {"fast": True}, {}) == Following((), (), (FAST.spec,))
    # Its volumes are to be deleted, also after a restart.
    assert follow([leaving(Removal.DELETE)], {}, {}) == Following((), (), (FAST.spec,))


def test_a_leaving_pool_that_is_to_be_deleted_is_removed_once_it_is_empty() -> None:
    assert follow([leaving(Removal.DELETE)], {"fast": False}, {}) == Following((), (), (FAST.spec,))
    assert follow([leaving(Removal.DELETE)], {"fast": True}, {}) == Following((), ("fast",), ())


def test_a_removed_pool_is_not_made_again_while_its_object_leaves() -> None:
    assert follow([leaving(Removal.DELETE)], {}, {"fast"}) == Following((), (), ())
    assert follow([FAST], {}, {"fast"}) == Following((), (), (FAST.spec,))


def test_a_pool_that_leaves_before_it_was_made_is_not_made() -> None:
    assert follow([Wanted(FAST.spec, 1, leaving=True)], {}, {}) == Following((), (), ())
    assert follow([Wanted(FAST.spec, 1, leaving=True)], {"fast": False}, {}) == Following((), (), (FAST.spec,))


def test_a_lost_pool_is_not_served() -> None:
    assert follow([Wanted(FAST.spec, 1, lost=True)], {"fast": False}, {}) == Following(("fast",), (), ())
