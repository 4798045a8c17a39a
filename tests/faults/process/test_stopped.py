"""A node that is stopped at any moment, as by SIGSTOP, holds nobody up for longer than a freeze may last."""

import signal
import time
from pathlib import Path
from typing import Final

import pytest

from tests.faults.crash.machine import Machine, Thing
from tests.faults.crash.process import NodeProcess
from tests.faults.crash.suspended import nothing_stays_suspended
from tests.faults.process.background import Background
from tests.faults.process.writer import Writer
from tests.faults.rounds import FACTOR, rounds, tell

_STOPS: Final = 8
_LONGEST: Final = 6.0 if FACTOR == 1 else 60.0
"""Seconds."""
_ENOUGH: Final = 5.0
"""Seconds for a write: a freeze is bounded by 2, and the writer has one processor with all others."""

pytestmark = pytest.mark.timeout(300 + int(90 * _STOPS * FACTOR))


class Cutter(Background):
    """Cuts snapshots of a volume, one after the other, and deletes them."""

    def __init__(self, machine: Machine, volume: Thing) -> None:
        self.cut = 0
        self._machine = machine
        self._volume = volume
        super().__init__()

    def step(self) -> None:
        """Cut one and delete it."""
        self._machine.delete(self._machine.snapshot(f"snapshot {self.cut}", self._volume))
        self.cut += 1


def test_a_node_that_is_stopped_holds_no_writer_up_and_goes_on_when_it_may(node: NodeProcess) -> None:
    times = rounds(_STOPS)
    dice = times.dice()
    machine = Machine(node.socket, node.kubelet)
    volume = machine.volume("file system")
    log = Path(machine.any.target(volume.known), "log")
    with Writer(log) as writer, Cutter(Machine(node.socket, node.kubelet), volume) as cutter:
        for _ in range(times.count):
            time.sleep(dice.uniform(0.1, 2.0))  # at any moment
            node.signal(signal.SIGSTOP)
            try:
                nothing_stays_suspended()
                time.sleep(dice.uniform(0, _LONGEST))  # for any time
            finally:
                node.signal(signal.SIGCONT)
    tell(f"{times.count} stops, {cutter.cut} snapshots, {writer.writes} writes, the longest {writer.longest:.2f} s")
    assert writer.longest < _ENOUGH
    assert cutter.cut
    machine.delete(volume)
    assert not machine.any.check().findings
