"""What hangs is touched by one thread, and everybody else is told within a bound."""

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from csi.errors import KernelError
from csi.volumes import pulse
from csi.volumes.pulse import Pulse, read_first


class Patient:
    """Something that may hang, and counts who touches it."""

    def __init__(self) -> None:
        self.well = threading.Event()
        self.touched = 0

    def look(self) -> None:
        self.touched += 1
        assert self.well.wait(30)


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> Iterator[Patient]:
    monkeypatch.setattr(pulse, "_PATIENCE", 0.2)
    made = Patient()
    yield made
    made.well.set()


def test_what_hangs_is_touched_once_and_told_to_all_at_once(patient: Patient) -> None:
    felt = Pulse(patient.look)
    begun = time.monotonic()
    with ThreadPoolExecutor(16) as threads:
        said = list(threads.map(lambda _: felt.hangs(), range(64)))
    assert all(said)
    assert patient.touched == 1
    assert time.monotonic() - begun < 5
    patient.well.set()
    while felt.hangs():
        assert time.monotonic() - begun < 10


def test_an_answer_counts_for_a_while(patient: Patient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pulse, "_PATIENCE", 30.0)
    monkeypatch.setattr(pulse, "_FRESH", 60.0)
    patient.well.set()
    felt = Pulse(patient.look)
    assert [felt.hangs() for _ in range(10)] == [0.0] * 10
    assert patient.touched == 1


def test_an_error_is_an_answer_and_is_told(tmp_path: Path) -> None:
    felt = Pulse(lambda: read_first(str(tmp_path / "gone")))
    assert not felt.hangs()
    assert isinstance(felt.trouble, KernelError)


def test_a_thread_that_cannot_be_had_is_not_held_against_the_disk(
    patient: Patient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def start(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(pulse, "_PATIENCE", 30.0)
    patient.well.set()
    felt = Pulse(patient.look)
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", start)
        assert not felt.hangs()
    assert not felt.hangs()
    assert patient.touched == 1
