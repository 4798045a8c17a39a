"""The tests of test_rounds, in a guest that runs udevd."""

from typing import Final

from tests.kernel.volumes.test_rounds import (
    test_a_volume_in_use_has_its_node_and_no_link_by_what_it_holds,
    test_nobody_else_holds_a_volume_open_when_it_is_let_go,
    test_two_hundred_rounds_leave_nothing_behind,
)

GUEST: Final = ["--udev"]

__all__ = [
    "test_a_volume_in_use_has_its_node_and_no_link_by_what_it_holds",
    "test_nobody_else_holds_a_volume_open_when_it_is_let_go",
    "test_two_hundred_rounds_leave_nothing_behind",
]
