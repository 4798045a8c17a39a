"""A node that is killed and a machine whose power is cut, again and again, have all that they ever said is there."""

import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from tests.faults.crash.known import Known
from tests.faults.crash.life import KNOWN
from tests.faults.rounds import FACTOR, Rounds, rounds, tell
from tests.guest.boot import DeadlineError
from tests.guest.machine import Guest, sparse_disk

_CUTS: Final = 4
"""Power cuts of the short form."""
_LIMIT: Final = 600.0
_LONGEST: Final = 30.0
_IN_RECOVERY: Final = 0.2
"""How often the power goes while what the last cut left is brought to an end."""

pytestmark = pytest.mark.timeout(600 + 120 * _CUTS * FACTOR)


class Machine:
    """A machine, and what is known of its disks."""

    def __init__(self, base: Path, seed: int, mode: str) -> None:
        disks = [sparse_disk(f"{base}/{name}", "8G") for name in ("pool", "own")]
        self.known = Known()
        self.guest = Guest(disks, share=str(base), sink=self._hear)
        self._known_file = base / KNOWN.name
        self._said = bytearray()
        self._mode, self._seed = mode, seed

    def lives(self, *steps: str) -> None:
        """Boot and take steps of tests.faults.crash.life to their end, then cut the power."""
        self._begin(steps)
        self.guest.wait_for(json.dumps({"finished": steps[-1]}), deadline=_LIMIT)
        self.guest.kill()
        self._learn()

    def is_cut_short(self, steps: tuple[str, ...], first: str, after: float) -> None:
        """Boot, and cut the power so many seconds after the machine has said ``first``."""
        begun = time.monotonic()
        self._begin(steps)
        self.guest.wait_for(first, deadline=_LIMIT)
        with pytest.raises(DeadlineError):
            self.guest.wait(deadline=time.monotonic() - begun + after)
        self._learn()

    def _begin(self, steps: tuple[str, ...]) -> None:
        self._known_file.write_text(self.known.dump())
        self._said.clear()
        self._seed += 1
        self.guest.start([sys.executable, "-m", "tests.faults.crash.life", self._mode, str(self._seed), *steps])

    def _hear(self, stream: int, data: bytes) -> None:
        if stream == 1:
            self._said += data
        else:
            sys.stderr.write(data.decode(errors="replace"))

    def _learn(self) -> None:
        self.known.learn(self._said.decode().splitlines(keepends=True))


@pytest.fixture
def times() -> Rounds:
    """Return how often, and the seed."""
    return rounds(_CUTS)


@pytest.fixture
def mode() -> str:
    """Return what the pool is on."""
    return "direct-lvm"


@pytest.fixture
def machine(tmp_path: Path, times: Rounds, mode: str) -> Iterator[Machine]:
    made = Machine(tmp_path, times.seed, mode)
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


@pytest.mark.parametrize(("mode", "part"), [("direct-lvm", 1), ("loop-lvm", 4)])
def test_kills_and_power_cuts_at_any_time_lose_nothing_that_was_answered(
    machine: Machine, times: Rounds, part: int
) -> None:
    dice = times.dice()
    cuts = times.count // part
    for number in range(cuts):
        if number and dice.random() < _IN_RECOVERY:
            machine.is_cut_short(("verify",), '"starting"', dice.uniform(0, 10))
        machine.is_cut_short(("verify", "churn"), '"killed"', dice.uniform(1, _LONGEST))
        known = machine.known
        tell(
            f"{number + 1} power cuts, {known.kills} kills, {known.looks} looks at everything,"
            f" {known.made} made, {len(known.gone)} gone"
        )
    machine.lives("verify")
    assert machine.known.looks or FACTOR == 1
