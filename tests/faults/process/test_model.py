"""A node and a model of it: whatever is asked in whatever order, killed or not, both hold the same."""

import itertools
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Final, TypeVar

import pytest
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule, run_state_machine_as_test

from csi.units import MIB
from tests.faults.crash.churn import all_is_well
from tests.faults.crash.machine import SIZES, Machine, Thing, again
from tests.faults.crash.process import NodeProcess
from tests.faults.rounds import FACTOR, rounds, tell

_EXAMPLES: Final = 5
_STEPS: Final = 20
_MOST: Final = 8
"""Volumes, and snapshots."""

_PICKS: Final = st.integers(0, 2**16)
_KILLS: Final = st.sampled_from((None, None, None, None, 0.0, 0.01, 0.03, 0.1, 0.3))
"""Seconds from the question to the end of who was asked."""

_Made = TypeVar("_Made")

GUEST: Final[list[str]] = []
"""One of its own, beside the others: it takes minutes."""

pytestmark = pytest.mark.timeout(300 + 300 * _EXAMPLES * FACTOR)


class Life(RuleBasedStateMachine):
    """One caller, that remembers what it was answered."""

    kills = steps = 0
    _names = itertools.count(time.time_ns())

    def __init__(self, node: NodeProcess) -> None:
        super().__init__()
        self._node = node
        self._machine = Machine(node.socket, node.kubelet)
        self._volumes: list[Thing] = []
        self._snapshots: list[tuple[Thing, ...]] = []
        """Those of a group together."""
        self._idle: set[str] = set()
        self._looked = True
        """Nothing was asked since all was looked at."""

    @initialize()
    def furnish(self) -> None:
        """Hypothesis leaves rules out of a whole example; the others are to find something."""
        first = self._machine.volume(self._name())
        self._volumes = [first, self._machine.volume(self._name(), "")]
        self._snapshots = [(self._machine.snapshot(self._name(), first),)]

    def _roomy(self) -> bool:
        return len(self._volumes) < _MOST

    def _changed(self) -> bool:
        return not self._looked

    def _has_volume(self) -> bool:
        return bool(self._volumes)

    def _has_snapshot(self) -> bool:
        return bool(self._snapshots)

    def _cuttable(self) -> bool:
        return bool(self._volumes) and len(self._snapshots) < _MOST

    @precondition(_roomy)
    @rule(fs_type=st.sampled_from(sorted(SIZES)), kill=_KILLS)
    def volume(self, fs_type: str, kill: float | None) -> None:
        self._volumes.append(self._asked(kill, lambda: self._machine.volume(self._name(), fs_type)))

    @precondition(lambda self: self._roomy() and self._has_volume())
    @rule(pick=_PICKS, kill=_KILLS)
    def clone(self, pick: int, kill: float | None) -> None:
        source = self._used(pick)
        self._volumes.append(self._asked(kill, lambda: self._machine.volume(self._name(), source=source)))

    @precondition(lambda self: self._roomy() and self._has_snapshot())
    @rule(pick=_PICKS, larger=st.booleans(), kill=_KILLS)
    def restore(self, pick: int, larger: bool, kill: float | None) -> None:
        source = self._snapshots[pick % len(self._snapshots)][0]
        size = source.size + (32 * MIB if larger else 0)
        self._volumes.append(self._asked(kill, lambda: self._machine.volume(self._name(), source=source, size=size)))

    @precondition(_cuttable)
    @rule(pick=_PICKS, kill=_KILLS)
    def snapshot(self, pick: int, kill: float | None) -> None:
        source = self._volumes[pick % len(self._volumes)]
        self._snapshots.append((self._asked(kill, lambda: self._machine.snapshot(self._name(), source)),))

    @precondition(lambda self: self._cuttable() and len(self._volumes) > 1)
    @rule(pick=_PICKS, kill=_KILLS)
    def group(self, pick: int, kill: float | None) -> None:
        pair = [self._used(pick), self._used(pick + 1)]
        self._snapshots.append(tuple(self._asked(kill, lambda: self._machine.group(self._name(), pair))))

    @precondition(_has_volume)
    @rule(pick=_PICKS)
    def rewrite(self, pick: int) -> None:
        thing = self._used(pick)
        if thing.fs_type:
            self._becomes(thing, self._machine.rewrite(thing))

    @precondition(_has_volume)
    @rule(pick=_PICKS, kill=_KILLS)
    def grow(self, pick: int, kill: float | None) -> None:
        thing = self._used(pick)
        size = thing.size + 32 * MIB
        self._asked(kill, lambda: self._machine.grow(thing, size))
        self._becomes(thing, replace(thing, size=size))

    @precondition(_has_volume)
    @rule(pick=_PICKS, kill=_KILLS)
    def release(self, pick: int, kill: float | None) -> None:
        thing = self._volumes[pick % len(self._volumes)]
        self._asked(kill, lambda: again(lambda: self._machine.any.release(thing.known)))
        self._idle.add(thing.id)

    @precondition(_has_volume)
    @rule(pick=_PICKS, kill=_KILLS)
    def delete(self, pick: int, kill: float | None) -> None:
        thing = self._volumes[pick % len(self._volumes)]
        self._asked(kill, lambda: self._machine.delete(thing))
        self._volumes.remove(thing)
        self._idle.discard(thing.id)

    @precondition(_has_snapshot)
    @rule(pick=_PICKS, kill=_KILLS)
    def drop(self, pick: int, kill: float | None) -> None:
        things = self._snapshots[pick % len(self._snapshots)]
        self._asked(kill, lambda: self._machine.delete(*things))
        self._snapshots.remove(things)

    @precondition(_changed)
    @rule()
    def look(self) -> None:
        for number, thing in enumerate(self._things()):
            if not thing.volume:
                assert self._machine.holds(thing, f"{self._name()} {number}") == thing.sum, thing
        for things in self._snapshots:
            if things[0].group:
                self._machine.cut_at_once(things)
        self._all_is_well()

    @precondition(_changed)
    @rule()
    def restart(self) -> None:
        self._node.stop(signal.SIGTERM)
        self._node.start()
        self._all_is_well()

    def teardown(self) -> None:
        for thing in self._volumes:
            self._machine.delete(thing)
        for things in self._snapshots:
            self._machine.delete(*things)
        all_is_well(self._node, self._machine, ())

    def _name(self) -> str:
        return str(next(Life._names))

    def _used(self, pick: int) -> Thing:
        """Return one of the volumes, in use."""
        thing = self._volumes[pick % len(self._volumes)]
        assert self._machine.holds(thing, "") == thing.sum, thing
        self._idle.discard(thing.id)
        return thing

    def _becomes(self, thing: Thing, now: Thing) -> None:
        self._volumes[self._volumes.index(thing)] = now

    def _things(self) -> list[Thing]:
        return [*self._volumes, *(thing for things in self._snapshots for thing in things)]

    def _all_is_well(self) -> None:
        all_is_well(self._node, self._machine, self._things(), self._idle)
        self._looked = True

    def _asked(self, kill: float | None, ask: Callable[[], _Made]) -> _Made:
        """Return what is answered, to the same question again if who was asked is killed."""
        Life.steps += 1
        self._looked = False
        if kill is None:
            return ask()
        with self._killed(kill):
            return ask()

    @contextmanager
    def _killed(self, after: float) -> Iterator[None]:
        trouble: list[BaseException] = []

        def kill() -> None:
            try:
                time.sleep(after)  # at a moment of the operation that was drawn
                self._node.stop(signal.SIGKILL)
                self._node.start()
            except BaseException as error:  # noqa: BLE001 - raised below
                trouble.append(error)

        thread = threading.Thread(target=kill)
        thread.start()
        try:
            yield
        finally:
            thread.join()
        Life.kills += 1
        if trouble:
            raise trouble[0]


def test_a_node_that_is_killed_in_any_operation_holds_what_a_model_of_it_holds(node: NodeProcess) -> None:
    times = rounds(_EXAMPLES)
    how = settings(
        max_examples=times.count,
        stateful_step_count=_STEPS,
        deadline=None,
        database=None,
        phases=(Phase.generate, Phase.shrink),
        suppress_health_check=list(HealthCheck),
    )
    # Anything that returns a machine will do, says its documentation.
    run_state_machine_as_test(seed(times.seed)(partial(Life, node)), settings=how)  # type: ignore[arg-type]
    tell(f"{Life.steps} operations, {Life.kills} kills")
    assert Life.kills
