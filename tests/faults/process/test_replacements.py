"""A node that is replaced again and again is not noticed by those who write."""

import signal
import time
from pathlib import Path
from typing import Final

import pytest

from tests.faults.crash.machine import Machine, Thing
from tests.faults.crash.process import NodeProcess
from tests.faults.process.writer import Writer
from tests.faults.rounds import FACTOR, rounds, tell

_REPLACEMENTS: Final = 10
_KEPT: Final = 5

pytestmark = pytest.mark.timeout(300 + 60 * _REPLACEMENTS * FACTOR)


def test_writers_go_on_and_snapshots_are_cut_while_the_node_is_replaced(node: NodeProcess) -> None:
    times = rounds(_REPLACEMENTS)
    dice = times.dice()
    machine = Machine(node.socket, node.kubelet)
    volumes = [machine.volume("file system"), machine.volume("blocks", "")]
    snapshots: list[Thing] = []
    longest = 0.0
    with Writer(_file(machine, volumes[0])) as first, Writer(_file(machine, volumes[1])) as second:
        writers = (first, second)
        for number in range(times.count):
            snapshots.append(machine.snapshot(f"before {number}", volumes[number % 2]))
            begun = time.monotonic()
            node.stop(dice.choice((signal.SIGTERM, signal.SIGKILL)))
            node.start()
            longest = max(longest, time.monotonic() - begun)
            if len(snapshots) > _KEPT:
                machine.delete(snapshots.pop(0))
            assert not [writer.trouble for writer in writers if writer.trouble]
    stalls = [writer.longest for writer in writers]
    tell(
        f"{times.count} replacements, the longest {longest:.1f} s; {sum(writer.writes for writer in writers)} writes,"
        f" the longest {max(stalls):.2f} s"
    )
    assert max(stalls) < longest
    for thing in [*snapshots, *volumes]:
        machine.delete(thing)
    assert not machine.any.check().findings


def _file(machine: Machine, volume: Thing) -> Path:
    target = machine.any.target(volume.known)
    return target / "log" if target.is_dir() else target
