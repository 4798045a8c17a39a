"""Durations and what is said of them."""

import pytest

from bench.sample import Sample, clocked, milliseconds, timed


def test_the_median_of_an_odd_number_is_the_middle_one() -> None:
    assert Sample.of([5.0, 1.0, 3.0]).median == 3.0


def test_the_median_of_an_even_number_is_the_mean_of_the_two_in_the_middle() -> None:
    assert Sample.of([4.0, 1.0, 3.0, 2.0]).median == 2.5


def test_the_hundredth_percentile_is_the_longest() -> None:
    sample = Sample.of(float(number) for number in range(101))
    assert sample.percentile(100) == sample.longest == 100.0


def test_a_percentile_between_two_durations_lies_between_them_by_its_distance() -> None:
    assert Sample.of([0.0, 1.0]).percentile(99) == pytest.approx(0.99)
    assert Sample.of(float(number) for number in range(101)).percentile(99) == pytest.approx(99.0)


def test_every_percentile_of_one_duration_is_that_duration() -> None:
    assert {Sample.of([7.0]).percentile(share) for share in (0, 50, 99, 100)} == {7.0}


def test_a_sample_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="needs a duration"):
        Sample.of([])


def test_a_sample_shows_its_median_and_its_count() -> None:
    assert str(Sample.of([0.001, 0.002, 0.009])) == "2.00 ms (3)"


def test_a_summary_is_in_milliseconds() -> None:
    summary = Sample.of([0.001, 0.003]).summary()
    assert (summary["count"], summary["p50_ms"], summary["longest_ms"]) == (2, 2.0, 3.0)


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(0.0004123, "0.412 ms"), (0.00213, "2.13 ms"), (0.0213, "21.3 ms"), (1.4904, "1490 ms")],
)
def test_a_duration_is_written_with_three_digits(seconds: float, shown: str) -> None:
    assert milliseconds(seconds) == shown


def test_timing_returns_what_was_returned_and_lets_errors_through() -> None:
    seconds, result = clocked(lambda: "made")
    assert seconds >= 0
    assert result == "made"
    with pytest.raises(ZeroDivisionError):
        timed(lambda: 1 // 0)
