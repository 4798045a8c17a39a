"""Many clients that make, change and delete for ever, under a node that is killed again and again."""

import random
import re
import shutil
import signal
import sqlite3
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Collection, Sequence
from contextlib import closing
from pathlib import Path
from typing import Final

from csi.catalog.database import FILE_NAME
from csi.cli.served import Served
from csi.dm.ioctl import Control
from csi.fs import mountinfo
from csi.units import MIB
from tests.faults.crash.machine import Machine, Thing, say, together
from tests.faults.crash.process import NodeProcess
from tests.faults.crash.suspended import nothing_stays_suspended

_CLIENTS: Final = 6
_MOST: Final = 4
"""Volumes, and snapshots, of one client."""
_LOOKS: Final = 0.3
"""How often all is compared after a start."""
_PATIENCE: Final = 180.0
_DEVICE: Final = re.compile(r"thinpool-[a-z2-7]{10}-(\d+)")
_ACTIONS: Final = {
    "volume": 4,
    "clone": 2,
    "restore": 2,
    "snapshot": 4,
    "group": 1,
    "rewrite": 3,
    "grow": 1,
    "delete": 4,
    "drop": 3,
}


class Client:
    """One caller with volumes of its own."""

    def __init__(self, machine: Machine, dice: random.Random, name: str, old: Sequence[tuple[Thing, ...]]) -> None:
        self._machine = machine
        self._dice = dice
        self._name = name
        self._count = 0
        self.old = list(old)
        """What earlier clients left, to be taken away."""
        self.volumes: list[Thing] = []
        self.snapshots: list[tuple[Thing, ...]] = []
        """Those of a group together."""

    def things(self) -> list[Thing]:
        """Return everything that must be there."""
        return [*self.volumes, *(thing for things in (*self.snapshots, *self.old) for thing in things)]

    def step(self) -> None:
        """Do one thing."""
        self._count += 1
        if self.old and self._dice.random() < 0.5:
            self._machine.delete(*self.old[-1])
            self.old.pop()
            return
        action = self._dice.choices(list(_ACTIONS), list(_ACTIONS.values()))[0]
        getattr(self, f"_{action}")(f"{self._name} {self._count}")

    def _volume(self, name: str) -> None:
        if len(self.volumes) < _MOST:
            fs_type = self._dice.choices(("ext4", "", "xfs", "btrfs"), (6, 4, 1, 1))[0]
            self.volumes.append(self._machine.volume(name, fs_type))

    def _clone(self, name: str) -> None:
        if self.volumes and len(self.volumes) < _MOST:
            self.volumes.append(self._machine.volume(name, source=self._dice.choice(self.volumes)))

    def _restore(self, name: str) -> None:
        if self.snapshots and len(self.volumes) < _MOST:
            self.volumes.append(self._machine.volume(name, source=self._dice.choice(self._dice.choice(self.snapshots))))

    def _snapshot(self, name: str) -> None:
        if self.volumes and len(self.snapshots) < _MOST:
            self.snapshots.append((self._machine.snapshot(name, self._dice.choice(self.volumes)),))

    def _group(self, name: str) -> None:
        if len(self.volumes) > 1 and len(self.snapshots) < _MOST:
            self.snapshots.append(tuple(self._machine.group(name, self._dice.sample(self.volumes, 2))))

    def _rewrite(self, _name: str) -> None:
        written = [number for number, thing in enumerate(self.volumes) if thing.fs_type]
        if written:
            number = self._dice.choice(written)
            self.volumes[number] = self._machine.rewrite(self.volumes[number])

    def _grow(self, _name: str) -> None:
        if self.volumes:
            number = self._dice.randrange(len(self.volumes))
            thing = self.volumes[number]
            self.volumes[number] = self._machine.grow(thing, thing.size + 32 * MIB)

    def _delete(self, _name: str) -> None:
        if self.volumes:
            number = self._dice.randrange(len(self.volumes))
            self._machine.delete(self.volumes[number])
            self.volumes.pop(number)

    def _drop(self, _name: str) -> None:
        if self.snapshots:
            number = self._dice.randrange(len(self.snapshots))
            self._machine.delete(*self.snapshots[number])
            self.snapshots.pop(number)


class Crowd:
    """All clients, each in a thread of its own; they can be held still between two steps."""

    def __init__(self, clients: Sequence[Client]) -> None:
        self.clients = clients
        self.failed = threading.Event()
        self._going = threading.Event()
        self._going.set()
        self._still = [threading.Event() for _ in clients]
        for number in range(len(clients)):
            threading.Thread(target=self._run, args=(number,), daemon=True).start()

    def hold(self) -> None:
        """Hold all still; return when each has its answer."""
        self._going.clear()
        deadline = time.monotonic() + _PATIENCE
        for still in self._still:
            while not still.wait(0.1):
                assert not self.failed.is_set(), "a client failed"
                assert time.monotonic() < deadline, "a client got no answer"

    def release(self) -> None:
        """Let all go on."""
        for still in self._still:
            still.clear()
        self._going.set()

    def _run(self, number: int) -> None:
        try:
            while True:
                if not self._going.is_set():
                    self._still[number].set()
                    self._going.wait()
                self.clients[number].step()
        except BaseException:  # noqa: BLE001 - told by the thread that kills
            traceback.print_exc()
            sys.stderr.flush()
            self.failed.set()


def churn(node: NodeProcess, make_machine: Callable[[], Machine], seed: int, old: Sequence[Thing]) -> None:
    """Run clients and kill the node until the power is cut, or something is wrong."""
    dice = random.Random(seed)  # noqa: S311 - not for secrets
    left = together(old)
    crowd = Crowd(
        [
            Client(make_machine(), random.Random(dice.random()), f"{time.time_ns()} {number}", left[number::_CLIENTS])  # noqa: S311
            for number in range(_CLIENTS)
        ]
    )
    looker = make_machine()
    kills = 0
    while True:
        assert not crowd.failed.wait(dice.uniform(0.1, 2.0)), "a client failed"
        _kill(node)
        kills += 1
        if dice.random() < 0.2:
            nothing_stays_suspended()
        while dice.random() < 0.3:
            # And one that has not come to serve yet.
            node.spawn()
            crowd.failed.wait(dice.uniform(0, 3.0))
            _kill(node)
            kills += 1
        node.start()
        if dice.random() < _LOOKS:
            crowd.hold()
            all_is_well(node, looker, [thing for client in crowd.clients for thing in client.things()])
            say(looked=kills)
            crowd.release()


def _kill(node: NodeProcess) -> None:
    node.stop(signal.SIGKILL)
    say(killed=node.socket)


def all_is_well(node: NodeProcess, machine: Machine, things: Sequence[Thing], idle: Collection[str] = ()) -> None:
    """See that ``things`` are what there is, in the node, the catalog, the kernel and the mounts.

    ``idle`` are the ids of the volumes that are not in use; all others are.
    """
    volumes = [thing for thing in things if thing.volume and thing.id not in idle]
    _wait_for_deletions(machine)
    answer = machine.any.check()
    assert not answer.findings, answer
    listed = handles(node)
    assert listed == {thing.id for thing in things}, f"listed {sorted(listed)}, not {sorted(t.id for t in things)}"
    for thing in volumes:
        assert machine.holds(thing, "") == thing.sum, f"{thing} holds something else"
    with Control() as control:
        active = {match[1] for device in control.devices() if (match := _DEVICE.fullmatch(device.name))}
    wanted = {"0", *(str(int(thing.id.rpartition("-")[2], 16)) for thing in volumes)}
    assert active == wanted, f"active {sorted(active - wanted)}, not active {sorted(wanted - active)}"
    mounts = [mount.mount_point for mount in mountinfo.mounts() if mount.mount_point.startswith(f"{node.kubelet}/")]
    expected = sum(2 if thing.fs_type else 1 for thing in volumes)
    assert len(mounts) == expected, mounts
    backing = [file.read_text().strip() for file in Path("/sys/block").glob("loop*/loop/backing_file")]
    assert len(backing) == len(set(backing)), f"on two loop devices: {backing}"
    assert all(Path(file).is_file() for file in backing), f"loop devices of files that are gone: {backing}"
    _the_catalog_is_sound(node)


def handles(node: NodeProcess) -> set[str]:
    """Return the handles of everything that the node lists."""
    with Served(node.socket) as served:
        return {device.handle for kind in ("volume", "snapshot") for device in served.devices(kind).devices}


def _the_catalog_is_sound(node: NodeProcess) -> None:
    """Check a copy: the node has the catalog for itself."""
    (directory,) = node.run_dir.glob("*/catalog")
    with tempfile.TemporaryDirectory() as copy:
        for file in directory.glob(f"{FILE_NAME}*"):
            shutil.copy(file, copy)
        with closing(sqlite3.connect(f"{copy}/{FILE_NAME}")) as opened:
            assert opened.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


def _wait_for_deletions(machine: Machine) -> None:
    deadline = time.monotonic() + _PATIENCE
    while machine.any.space().deferred:
        assert time.monotonic() < deadline, "deleted space does not come back"
        time.sleep(0.2)
