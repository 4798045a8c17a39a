"""The demo's data and its writers."""

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from csi.cli import tree
from csi.cli.account import DemoError
from csi.cli.tree import Appending, Writer, checksums, damage, in_order, numbers, write_in_turn, write_tree


@pytest.fixture
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tree, "_SIZES", (16, 4096, 5000))


@pytest.mark.usefixtures("_small")
def test_checksums_of_a_tree_read_back_and_show_every_damage(tmp_path: Path) -> None:
    sums = write_tree(tmp_path / "data")
    assert checksums(tmp_path / "data") == sums
    assert len(set(sums.values())) == len(sums) == 8 * 3
    damage(tmp_path / "data")
    now = checksums(tmp_path / "data")
    assert set(now) < set(sums)
    changed = [file for file, checksum in now.items() if sums[file] != checksum]
    assert changed
    assert len(changed) < len(now)


def test_a_writer_goes_on_until_it_is_stopped(tmp_path: Path) -> None:
    log = Appending(tmp_path / "log")
    with Writer(log) as writer:
        writer.go_on(3)
        writer.stop()
    assert writer.count >= 3
    assert writer.longest > 0
    assert log.intact()
    assert (tmp_path / "log").stat().st_size == writer.count * 64 << 10
    os.truncate(tmp_path / "log", 100)
    assert not log.intact()


def test_a_write_that_fails_is_told(tmp_path: Path) -> None:
    log = Appending(tmp_path / "no such directory" / "log")
    with Writer(log) as writer:
        with pytest.raises(DemoError, match="stands still after 0 writes"):
            writer.go_on(1)
        with pytest.raises(DemoError, match="a write failed"):
            writer.stop()


def test_numbers_are_written_in_turn(tmp_path: Path) -> None:
    files = [tmp_path / name for name in "abc"]
    write = write_in_turn(files)
    assert numbers(files) == [0, 0, 0]
    write(41)
    assert numbers(files) == [41, 41, 41]


@given(st.integers(0, 1 << 60), st.integers(0, 2))
def test_what_a_stop_between_two_writes_leaves_is_in_order(number: int, written: int) -> None:
    found = [number + 1] * written + [number] * (3 - written)
    assert in_order(found)


@pytest.mark.parametrize("found", [[1, 2, 2], [2, 2, 3], [2, 1, 2], [3, 2, 1], [5, 3, 3]])
def test_a_later_write_without_an_earlier_one_is_not_in_order(found: list[int]) -> None:
    assert not in_order(found)
