"""What can be asked for on the command line."""

import argparse
import importlib

import pytest

from bench.__main__ import PARTS, parts_of
from bench.goals import GOALS


def test_every_figure_is_measured_by_one_part() -> None:
    assert sorted(figure for figures in PARTS.values() for figure in figures) == sorted(GOALS)


def test_every_part_can_be_run() -> None:
    assert all(callable(importlib.import_module(f"bench.{part}").run) for part in PARTS)


def test_figures_and_parts_choose_the_parts_in_their_order_once() -> None:
    assert parts_of("flat,snapshot_vs_lvm,create_vs_lvm") == ["operations", "flat"]


def test_an_unknown_name_is_refused() -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="nonsense"):
        parts_of("nonsense")
