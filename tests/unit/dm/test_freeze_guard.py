"""What the guard of a freeze understands, and when it acts; what it does is tested on a kernel."""

import itertools
import json
import os
import pathlib
import signal
import threading
import time
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from csi.dm.freeze_guard import Freeze, Guard
from csi.dm.freezer import Freezer, Frozen
from csi.errors import UnavailableError


def _line(number: int, deadline: float = 5.0) -> bytes:
    message = {"freeze": number, "names": [f"d{number}"], "thread": 17, "deadline": deadline}
    return json.dumps(message).encode() + b"\n"


@given(st.permutations(range(4)), st.lists(st.integers(1, 400), max_size=8))
def test_messages_are_understood_wherever_they_are_cut(order: list[int], cuts: list[int]) -> None:
    data = b"".join(_line(number) for number in range(5)) + b"".join(b'{"over":%d}\n' % number for number in order)
    guard = Guard(1)
    ends = sorted({min(cut, len(data)) for cut in cuts} | {0, len(data)})
    for start, end in itertools.pairwise(ends):
        guard.feed(data[start:end])
    assert guard.freezes == {4: Freeze(["d4"], 17, 5.0)}


def test_what_is_no_message_is_an_error() -> None:
    with pytest.raises(ValueError, match="Expecting"):
        Guard(1).feed(b"freeze\n")
    with pytest.raises(KeyError):
        Guard(1).feed(b'{"over": 3}\n')


def test_it_sleeps_until_the_nearest_deadline_and_then_looks_often() -> None:
    guard = Guard(1)
    assert guard.timeout(0.0) is None
    guard.feed(_line(1, 7.0) + _line(2, 5.0))
    assert guard.timeout(4.0) == 1.0
    late = guard.timeout(6.0)
    assert late is not None
    assert 0 < late < 0.2


def test_the_thread_that_freezes_is_woken_at_its_deadline_and_not_before(monkeypatch: pytest.MonkeyPatch) -> None:
    woken: list[tuple[int, int, int]] = []
    thawed: list[str] = []

    def note(process: int, thread: int, number: int) -> None:
        woken.append((process, thread, number))

    def thaw(_guard: Guard, freeze: Freeze) -> bool:
        thawed.extend(freeze.names)
        return True

    monkeypatch.setattr("csi.dm.abi.signal_thread", note)
    monkeypatch.setattr(Guard, "thaw", thaw)
    guard = Guard(99)
    guard.feed(_line(1, 5.0) + _line(2, 6.0))
    guard.expire(4.9)
    assert (woken, thawed) == ([], [])
    guard.expire(5.0)
    assert (woken, thawed) == ([(99, 17, signal.SIGUSR1)], ["d1"])
    guard.finish()
    assert thawed == ["d1", "d1", "d2"]


def test_an_expired_freeze_names_its_devices_and_its_limit() -> None:
    frozen = Frozen("a, b", 2.0, time.monotonic() - 0.1)
    assert frozen.expired
    assert "a, b: it took longer than 2 s" in str(frozen.too_long())
    assert not Frozen("a", 2.0, time.monotonic() + 60).expired


@pytest.fixture
def freezer() -> Iterator[Freezer]:
    """Start a real guard; freezing nothing needs no device-mapper."""
    before = signal.getsignal(signal.SIGUSR1)
    started = Freezer.start()
    yield started
    started.close()
    os.wait()
    signal.signal(signal.SIGUSR1, before)


def test_an_empty_group_freezes_nothing_and_the_guard_ends_by_itself(freezer: Freezer) -> None:
    for _ in range(3):
        with freezer.frozen([]) as frozen:
            assert not frozen.expired


def test_a_body_past_its_deadline_is_an_error(freezer: Freezer) -> None:
    def dawdle() -> None:
        with freezer.frozen([], limit=0.01) as frozen:
            while not frozen.expired:
                time.sleep(0.01)

    with pytest.raises(UnavailableError, match=r"took longer than 0.01 s"):
        dawdle()


def test_the_end_of_the_guard_is_noticed() -> None:
    started = Freezer.start()
    children = pathlib.Path(f"/proc/self/task/{threading.get_native_id()}/children").read_text().split()
    for child in children:
        os.kill(int(child), signal.SIGKILL)
        os.waitpid(int(child), 0)
    with pytest.raises(UnavailableError, match="gone"), started.frozen([]):
        pytest.fail("frozen without a guard")
    started.close()
