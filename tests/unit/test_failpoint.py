"""Every failpoint is a place in the code that some test of crashes comes to, and every place is a failpoint."""

import re
from pathlib import Path

import csi
from csi.failpoint import POINTS

_PACKAGE = Path(csi.__file__).parent
_KERNEL = Path(__file__).parents[1] / "kernel"
_HIT = re.compile(r"\bhit\((.*?)\)")
_NAME = re.compile(r'"([a-z-]+\.[a-z-]+)"')


def test_the_list_and_the_places_are_the_same() -> None:
    places = {
        place
        for file in _PACKAGE.rglob("*.py")
        if file.name != "failpoint.py"
        for place in _HIT.findall(file.read_text())
    }
    assert places == {f'"{point}"' for point in POINTS}
    assert len(set(POINTS)) == len(POINTS)


def test_each_is_where_a_test_has_the_node_die() -> None:
    tried = {name for file in _KERNEL.glob("*/test_*.py") for name in _NAME.findall(file.read_text())}
    assert set(POINTS) <= tried, sorted(set(POINTS) - tried)
