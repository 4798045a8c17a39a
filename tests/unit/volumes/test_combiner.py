"""What waits at the same time is carried out together, and each is told what came of its own."""

import itertools
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager

import pytest

from csi.errors import NoSpaceError, UnavailableError
from csi.volumes.combiner import MOST, Carry, Combiner
from tests.kernel.conftest import wait_until

_CROWD = 8


class Doubling:
    """Doubles numbers; the first time it waits until it may go on."""

    def __init__(self) -> None:
        self.asked: list[list[int]] = []
        self.begun = threading.Event()
        self.may = threading.Event()

    def carry(self, wanted: Sequence[int]) -> list[int | Exception]:
        """Refuse what is negative."""
        self.asked.append(list(wanted))
        self.begun.set()
        assert self.may.wait(30)
        return [number * 2 if number >= 0 else NoSpaceError("double", str(number), "no room") for number in wanted]


@pytest.fixture
def threads() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(MOST + 4) as made:
        yield made


def _have(
    combiner: Combiner[int, int], number: int, carry: Carry[int, int], patience: float = 30.0
) -> Callable[[], int]:
    return lambda: combiner.have(number, carry, operation="double", subject=str(number), patience=patience)


@contextmanager
def _one_at_work(
    combiner: Combiner[int, int], doubling: Doubling, threads: ThreadPoolExecutor
) -> Iterator[Future[int]]:
    """Have one begun and not ended for the body."""
    first = threads.submit(_have(combiner, 1, doubling.carry))
    assert doubling.begun.wait(30)
    yield first
    doubling.may.set()


def test_who_comes_alone_is_not_kept_waiting_for_others() -> None:
    doubling = Doubling()
    doubling.may.set()
    combiner = Combiner[int, int]()
    assert [_have(combiner, number, doubling.carry)() for number in (1, 2)] == [2, 4]
    assert doubling.asked == [[1], [2]]


def test_those_who_come_meanwhile_are_served_together(threads: ThreadPoolExecutor) -> None:
    combiner, doubling = Combiner[int, int](), Doubling()
    with _one_at_work(combiner, doubling, threads) as first:
        others = [threads.submit(_have(combiner, number, doubling.carry)) for number in range(_CROWD)]
        wait_until(lambda: len(combiner._waiting) == _CROWD)
    assert first.result(30) == 2
    assert [other.result(30) for other in others] == [number * 2 for number in range(_CROWD)]
    assert [sorted(asked) for asked in doubling.asked] == [[1], [*range(_CROWD)]]


def test_no_more_are_carried_out_together_than_may_hang_together(threads: ThreadPoolExecutor) -> None:
    combiner, doubling = Combiner[int, int](), Doubling()
    with _one_at_work(combiner, doubling, threads):
        others = [threads.submit(_have(combiner, number, doubling.carry)) for number in range(MOST + 2)]
        wait_until(lambda: len(combiner._waiting) == len(others))
    assert [other.result(30) for other in others] == [number * 2 for number in range(MOST + 2)]
    assert [len(asked) for asked in doubling.asked] == [1, MOST, 2]


def test_what_is_over_is_answered_however_long_the_next_takes(threads: ThreadPoolExecutor) -> None:
    combiner, doubling, next_one = Combiner[int, int](), Doubling(), Doubling()
    with _one_at_work(combiner, doubling, threads) as first:
        waiting = threads.submit(_have(combiner, 2, next_one.carry))
        wait_until(lambda: len(combiner._waiting) == 1)
    assert first.result(30) == 2
    assert next_one.begun.wait(30)
    next_one.may.set()
    assert waiting.result(30) == 4


def test_one_that_fails_leaves_the_others_alone(threads: ThreadPoolExecutor) -> None:
    combiner, doubling = Combiner[int, int](), Doubling()
    with _one_at_work(combiner, doubling, threads):
        others = [threads.submit(_have(combiner, number, doubling.carry)) for number in (5, -5, 6)]
        wait_until(lambda: len(combiner._waiting) == len(others))
    assert (others[0].result(30), others[2].result(30)) == (10, 12)
    with pytest.raises(NoSpaceError, match="double -5"):
        others[1].result(30)


def test_what_was_not_begun_in_time_is_never_done(threads: ThreadPoolExecutor) -> None:
    combiner, doubling = Combiner[int, int](), Doubling()
    with (
        _one_at_work(combiner, doubling, threads),
        pytest.raises(UnavailableError, match=r"double 7: others have been at it for 0\.05 s"),
    ):
        _have(combiner, 7, doubling.carry, patience=0.05)()
    assert _have(combiner, 8, doubling.carry)() == 16
    assert doubling.asked == [[1], [8]]


def test_what_is_begun_is_waited_for(threads: ThreadPoolExecutor) -> None:
    """Whoever gave up would let go of what the making needs, such as the turn of its source."""
    combiner, doubling = Combiner[int, int](), Doubling()
    again = Doubling()
    with _one_at_work(combiner, doubling, threads):
        second = threads.submit(_have(combiner, 2, again.carry))
        wait_until(lambda: len(combiner._waiting) == 1)
        third = threads.submit(_have(combiner, 3, again.carry, patience=3.0))
        wait_until(lambda: len(combiner._waiting) == 2)
    assert again.begun.wait(30)
    assert again.asked == [[2, 3]]
    with pytest.raises(TimeoutError):
        third.result(4)
    again.may.set()
    assert (second.result(30), third.result(30)) == (4, 6)


def test_an_error_of_the_whole_is_everybodys_and_passes(threads: ThreadPoolExecutor) -> None:
    combiner, doubling = Combiner[int, int](), Doubling()

    def fail(_wanted: Sequence[int]) -> list[int | Exception]:
        raise ValueError("broken")

    with _one_at_work(combiner, doubling, threads):
        others = [threads.submit(_have(combiner, number, fail)) for number in range(_CROWD)]
        wait_until(lambda: len(combiner._waiting) == _CROWD)
    for other in others:
        with pytest.raises(ValueError, match="broken"):
            other.result(30)
    assert _have(combiner, 4, doubling.carry)() == 8


def test_what_was_broken_off_is_not_answered_as_done(threads: ThreadPoolExecutor) -> None:
    combiner, doubling = Combiner[int, int](), Doubling()

    def break_off(_wanted: Sequence[int]) -> list[int | Exception]:
        raise SystemExit

    with _one_at_work(combiner, doubling, threads):
        others = [threads.submit(_have(combiner, number, break_off)) for number in range(2)]
        wait_until(lambda: len(combiner._waiting) == len(others))
    ended = {type(other.exception(30)) for other in others}
    assert ended == {SystemExit, UnavailableError}
    assert _have(combiner, 4, doubling.carry)() == 8


def test_of_a_crowd_each_is_carried_out_once_or_told_that_it_was_not(threads: ThreadPoolExecutor) -> None:
    combiner, done, patience = Combiner[int, int](), list[int](), itertools.cycle((0.001, 0.01, 30.0))

    def carry(wanted: Sequence[int]) -> list[int | Exception]:
        time.sleep(0.002)
        done.extend(wanted)
        return [number * 2 for number in wanted]

    def ask(number: int) -> bool:
        try:
            return _have(combiner, number, carry, next(patience))() == number * 2
        except UnavailableError:
            return False

    told = list(threads.map(ask, range(600)))
    assert sorted(done) == [number for number, was_done in enumerate(told) if was_done]
    assert 0 < len(done) < len(told)
