"""The table, the lines for programs, the file."""

import io
import json
from pathlib import Path

import pytest

from bench.goals import GOALS, Goal, Sense
from bench.report import Report, rounded
from bench.sample import Sample


@pytest.fixture
def report() -> Report:
    return Report(out=io.StringIO(), progress=io.StringIO())


def table(report: Report) -> list[str]:
    assert isinstance(report.out, io.StringIO)
    return report.out.getvalue().splitlines()


def test_a_figure_is_shown_at_once_below_one_head(report: Report) -> None:
    report.add("create_vs_limit", 1.2345, ours=Sample.of([0.002]))
    assert [row.split()[0] for row in table(report)] == ["figure", "create_vs_limit"]
    report.add("list_10k", 0.01)
    assert [row.split()[0] for row in table(report)] == ["figure", "create_vs_limit", "list_10k"]


def test_a_row_has_the_value_its_goal_and_what_it_was_made_from(report: Report) -> None:
    report.add("create_vs_limit", 1.2345, "a note", ours=Sample.of([0.002, 0.004]))
    row = table(report)[1]
    assert " ".join(row.split()) == "create_vs_limit 1.23 ≤ 1.5 ok ours 3.00 ms (2); a note"


def test_a_figure_off_its_goal_is_marked(report: Report) -> None:
    report.add("create_vs_limit", 1.51)
    report.add("create_vs_lvm", 24.9)
    assert [row.split()[-1] for row in table(report)[1:]] == ["MISSED", "MISSED"]


def test_a_figure_with_no_goal_has_no_mark(report: Report) -> None:
    report.add("flat_lvm", 2.5)
    assert table(report)[1].split() == ["flat_lvm", "2.5"]


def test_a_figure_that_nobody_has_described_is_refused(report: Report) -> None:
    with pytest.raises(KeyError):
        report.add("unheard_of", 1.0)


def test_the_values_are_one_line_each(report: Report) -> None:
    report.add("create_vs_lvm", 123.4)
    report.add("list_10k", 0.03214)
    assert report.values() == "create_vs_lvm 123\nlist_10k 0.0321\n"


def test_progress_does_not_go_into_the_table(report: Report) -> None:
    report.tell("making pools")
    assert table(report) == []
    assert isinstance(report.progress, io.StringIO)
    assert report.progress.getvalue() == "| making pools\n"


def test_the_file_tells_how_it_was_run_and_keeps_samples_and_curves(report: Report, tmp_path: Path) -> None:
    report.add("create_vs_limit", 1.6, ours=Sample.of([0.002]))
    report.point("create", 10, 0.002)
    report.write(tmp_path / "results.json", quick=True)
    found = json.loads((tmp_path / "results.json").read_text())
    assert found["run"]["quick"] is True
    assert found["figures"]["create_vs_limit"]["met"] is False
    assert found["figures"]["create_vs_limit"]["samples"]["ours"]["count"] == 1
    assert found["curves"] == {"create": [{"volumes": 10, "ms": 2.0}]}


@pytest.mark.parametrize(("value", "shown"), [(412.4, "412"), (2.134, "2.13"), (0.03214, "0.0321"), (1.0, "1")])
def test_a_value_is_written_with_the_digits_that_mean_something(value: float, shown: str) -> None:
    assert rounded(value) == shown


def test_a_goal_is_met_on_its_own_side() -> None:
    assert Goal("", Sense.AT_LEAST, 10).met(10)
    assert not Goal("", Sense.AT_LEAST, 10).met(9.9)
    assert Goal("", Sense.AT_MOST, 10).met(10)
    assert not Goal("", Sense.AT_MOST, 10).met(10.1)
    assert Goal("").met(10) is None


def test_every_figure_has_a_meaning() -> None:
    assert all(goal.meaning for goal in GOALS.values())
