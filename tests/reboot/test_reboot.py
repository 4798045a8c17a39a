"""A machine whose power is cut, and which boots again on the same disks, has all that it was ever told is there."""

import random
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.guest.boot import DeadlineError
from tests.guest.machine import Guest, sparse_disk
from tests.reboot.known import Known
from tests.reboot.life import KNOWN

pytestmark = pytest.mark.timeout(600)

_LIMIT = 150.0
_CUTS = 3


class Machine:
    """A machine, and what is known of its disks."""

    def __init__(self, base: Path) -> None:
        disks = [sparse_disk(f"{base}/{name}", "8G") for name in ("pool", "own")]
        self.known = Known()
        self._known_file = base / KNOWN.name
        self._said = bytearray()
        self.guest = Guest(disks, share=str(base), sink=self._hear)

    def lives(self, step: str) -> None:
        """Boot and take a step of tests.reboot.life to its end, then cut the power."""
        self._begin(step)
        self.guest.wait_for('"finished"', deadline=_LIMIT)
        self.guest.kill()
        self._learn()

    def is_cut_short(self, step: str, after: float) -> None:
        """Boot, and cut the power so many seconds after the first answer."""
        begun = time.monotonic()
        self._begin(step)
        self.guest.wait_for('"made"', deadline=_LIMIT)
        with pytest.raises(DeadlineError):
            self.guest.wait(deadline=time.monotonic() - begun + after)
        self._learn()

    def _begin(self, step: str) -> None:
        self._known_file.write_text(self.known.dump())
        self._said.clear()
        self.guest.start([sys.executable, "-m", "tests.reboot.life", step])

    def _hear(self, stream: int, data: bytes) -> None:
        if stream == 1:
            self._said += data
        else:
            sys.stderr.write(data.decode(errors="replace"))

    def _learn(self) -> None:
        self.known.learn(self._said.decode().splitlines(keepends=True))


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    made = Machine(tmp_path)
    with made.guest:
        yield made


def test_volumes_snapshots_and_clones_that_were_in_use_are_there_after_a_reboot(machine: Machine) -> None:
    machine.lives("furnish")
    things = list(machine.known.must.values())
    # One of each file system and of raw blocks, a clone of each kind and one larger than its snapshot.
    assert len([thing for thing in things if thing["volume"]]) == 7
    assert len([thing for thing in things if not thing["volume"]]) == 3
    machine.lives("verify")
    # And again, from a pool that was never put away.
    machine.lives("verify")
    assert list(machine.known.must.values()) == things


def test_a_power_cut_at_any_time_loses_nothing_that_was_answered(machine: Machine) -> None:
    seed = time.time_ns()
    sys.stderr.write(f"seed {seed}\n")
    dice = random.Random(seed)  # noqa: S311 - not for secrets
    for _ in range(_CUTS):
        machine.is_cut_short("churn", dice.uniform(1, 10))
        machine.lives("verify")
    assert machine.known.must
