"""What a machine does between two power cuts: ``python -m tests.reboot.life furnish|verify|churn`` in a guest.

The pool is on the guest's first disk, what else a machine keeps on its second. What was begun and what was answered
goes to standard output as one JSON object a line, and so leaves the guest before the power does.
"""

import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from itertools import count
from pathlib import Path
from typing import Final

from csi.cli.client import listening
from csi.cli.kubelet import Kubelet, Volume
from csi.units import MIB

KNOWN: Final = Path("/run/shared/known.json")
"""What the host has made of the lines of earlier boots: a :class:`~tests.reboot.known.Known`."""

_POOL, _OWN = "/dev/ubda", "/dev/ubdb"
_PLACE: Final = Path("/run/machine")
_HOME: Final = _PLACE / "disk"
_KUBELET: Final = _HOME / "kubelet"
_SIZES: Final = {"ext4": 32 * MIB, "xfs": 320 * MIB, "btrfs": 128 * MIB, "": 32 * MIB}
"""The size of a volume by its file system; none is raw block."""
_LENGTH: Final = 2 * MIB
_MANY: Final = 6
_START: Final = 60.0


@dataclass(frozen=True)
class Thing:
    """A volume or a snapshot, and the checksum of what is in it."""

    id: str
    name: str
    fs_type: str
    sum: str
    volume: bool
    size: int = 0


class Machine:
    """Asks a node for volumes and snapshots, and says what it asked and what was answered."""

    def __init__(self, socket: str) -> None:
        self._by_type = {fs: Kubelet(socket, _KUBELET, fs or "ext4") for fs in _SIZES}
        self.any = self._by_type[""]

    def volume(self, name: str, fs_type: str = "ext4", source: Thing | None = None, size: int = 0) -> Thing:
        """Make a volume, with something of its own in it or with what ``source`` holds, and leave it in use."""
        if source is not None:
            fs_type, size = source.fs_type, size or source.size
        size = size or _SIZES[fs_type]
        say(making={"name": name, "fs_type": fs_type, "source": source and asdict(source), "size": size})
        kubelet = self._by_type[fs_type]
        of = {} if source is None else {"volume" if source.volume else "snapshot": source.id}
        made = kubelet.create(name, size, block=not fs_type, **of)
        path = _data(kubelet.use(made))
        if source is None:
            _write(path, os.urandom(_LENGTH))
        thing = Thing(made.id, name, fs_type, _sum(path), volume=True, size=size)
        assert source is None or thing.sum == source.sum, f"{name} is not what {source.name} was"
        say(made=asdict(thing))
        return thing

    def snapshot(self, name: str, source: Thing) -> Thing:
        """Cut a snapshot."""
        say(making={"name": name, "snapshot": source.id})
        thing = Thing(self.any.snapshot(name, _volume(source)), name, source.fs_type, source.sum, False, source.size)
        say(made=asdict(thing))
        return thing

    def group(self, name: str, sources: list[Thing]) -> list[Thing]:
        """Cut snapshots of several volumes at once."""
        say(making={"name": name, "group": [source.id for source in sources]})
        group, members = self.any.snapshot_group(name, [_volume(source) for source in sources])
        things = [
            Thing(members[source.id], f"{name} in {group}", source.fs_type, source.sum, False, source.size)
            for source in sources
        ]
        for thing in things:
            say(made=asdict(thing))
        return things

    def delete(self, thing: Thing) -> None:
        """Release and delete a volume, or delete a snapshot, which may be gone."""
        say(deleting=thing.id)
        if thing.volume:
            self.any.volumes[thing.id] = _volume(thing)
            self.any.release(_volume(thing))
            self.any.delete(_volume(thing))
        else:
            self.any.snapshots.append(thing.id)
            self.any.delete_snapshot(thing.id)
        say(gone=thing.id)

    def retry(self, making: dict[str, object]) -> None:
        """Ask once more for what was not answered, as an orchestrator does, and take it away."""
        name = str(making["name"])
        if "snapshot" in making:
            self.any.delete_snapshot(self.any.snapshot(name, Volume(str(making["snapshot"]), name, 0, block=False)))
        elif "group" in making:
            members = making["group"]
            assert isinstance(members, list)
            made, _ = self.any.snapshot_group(name, [Volume(member, member, 0, block=False) for member in members])
            self.any.delete_group(made)
        else:
            source = making["source"]
            assert source is None or isinstance(source, dict)
            fs_type = str(making["fs_type"])
            kubelet = self._by_type[fs_type]
            of = {} if source is None else {"volume" if source["volume"] else "snapshot": source["id"]}
            volume = kubelet.create(name, int(str(making["size"])), block=not fs_type, **of)
            kubelet.use(volume)
            kubelet.release(volume)
            kubelet.delete(volume)

    def holds(self, thing: Thing, name: str) -> None:
        """See that a volume or a snapshot is there with its content; a volume is in use afterwards."""
        kubelet = self._by_type[thing.fs_type]
        if thing.volume:
            found = _sum(_data(kubelet.use(_volume(thing))))
        else:
            copy = kubelet.create(name, block=not thing.fs_type, snapshot=thing.id)
            found = _sum(_data(kubelet.use(copy)))
            kubelet.release(copy)
            kubelet.delete(copy)
        assert found == thing.sum, f"{thing} holds something else"


def furnish(machine: Machine) -> None:
    """Put everything into use that there can be."""
    first, *others = [machine.volume(f"of {fs_type or 'blocks'}", fs_type) for fs_type in _SIZES]
    snapshot = machine.snapshot("snapshot", first)
    _write(_data(machine.any.target(_volume(first))).with_name("later"), b"what no snapshot has")
    machine.volume("clone", source=others[0])
    machine.volume("restored", source=snapshot, size=2 * first.size)
    machine.volume("copied blocks", source=others[-1])
    machine.group("group", [first, others[-1]])


def verify(machine: Machine) -> None:
    """See that everything is there that was answered, and nothing that was taken away."""
    known = json.loads(KNOWN.read_text())
    there = {thing["id"]: Thing(**thing) for thing in known["must"]}
    for number, thing in enumerate(there.values()):
        machine.holds(thing, f"seen {time.time_ns()} {number}")
    for gone in known["gone"]:
        assert not machine.any.exists(Volume(gone, gone, 0, block=False)), f"{gone} was deleted"
    for maybe in known["maybe"]:
        machine.delete(Thing(**maybe))
    for making in known["unanswered"]:
        machine.retry(making)
    fresh = machine.volume(f"new {time.time_ns()}")
    assert fresh.id not in {*there, *known["gone"], *(maybe["id"] for maybe in known["maybe"])}, "an id was used twice"
    machine.delete(fresh)
    answer = machine.any.check()
    assert not answer.findings, answer


def churn(machine: Machine) -> None:
    """Make and delete for ever."""
    dice = random.Random(os.urandom(8))  # noqa: S311 - not for secrets
    volumes: list[Thing] = []
    snapshots: list[Thing] = []
    for number in count():
        name = f"{time.time_ns()} {number}"
        action = dice.choice(
            ("volume", "volume", "clone", "snapshot", "snapshot", "restore", "group", "delete", "drop")
        )
        if action == "volume" and len(volumes) < _MANY:
            volumes.append(machine.volume(name, dice.choice(("ext4", ""))))
        elif action == "clone" and volumes and len(volumes) < _MANY:
            volumes.append(machine.volume(name, source=dice.choice(volumes)))
        elif action == "restore" and snapshots and len(volumes) < _MANY:
            volumes.append(machine.volume(name, source=dice.choice(snapshots)))
        elif action == "snapshot" and volumes:
            snapshots.append(machine.snapshot(name, dice.choice(volumes)))
        elif action == "group" and len(volumes) > 1:
            machine.group(name, dice.sample(volumes, 2))
        elif action == "delete" and volumes:
            machine.delete(volumes.pop(dice.randrange(len(volumes))))
        elif action == "drop" and snapshots:
            machine.delete(snapshots.pop(dice.randrange(len(snapshots))))


@contextmanager
def served() -> Iterator[str]:
    """Run a node as a machine that boots would, and yield its socket."""
    _HOME.mkdir(parents=True)
    if subprocess.run(["blkid", "--probe", _OWN], check=False, capture_output=True, timeout=30).returncode:
        subprocess.run(["mkfs.ext4", "-q", _OWN], check=True, timeout=60)
    subprocess.run(["mount", _OWN, str(_HOME)], check=True, timeout=60)
    _KUBELET.mkdir(exist_ok=True)
    pools = _PLACE / "pools.yaml"
    pools.write_text(f"pools: [{{name: default, devices: [{_POOL}], overprovisionRatio: 20}}]\n")
    socket = f"{_PLACE}/csi.sock"
    argv = [
        *(sys.executable, "-m", "csi", "node", "--endpoint", f"unix://{socket}", "--pools", str(pools)),
        *("--node-name", "node-a", "--state-dir", str(_HOME / "state"), "--run-dir", f"{_PLACE}/run"),
        *("--kubelet-dir", str(_KUBELET)),
    ]
    node = subprocess.Popen(argv)
    deadline = time.monotonic() + _START
    while not listening(socket):
        assert node.poll() is None, "the node did not start"
        assert time.monotonic() < deadline, "the node does not serve"
        time.sleep(0.1)
    yield socket
    node.send_signal(signal.SIGTERM)
    assert node.wait(60) == 0


def say(**what: object) -> None:
    """Tell the host."""
    sys.stdout.write(f"{json.dumps(what)}\n")
    sys.stdout.flush()


def _volume(thing: Thing) -> Volume:
    return Volume(thing.id, thing.name, thing.size, block=not thing.fs_type)


def _data(target: Path) -> Path:
    return target / "data" if target.is_dir() else target


def _write(path: Path, data: bytes) -> None:
    with path.open("r+b" if path.is_block_device() else "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    if path.is_file():
        directory = os.open(path.parent, os.O_RDONLY)
        os.fsync(directory)
        os.close(directory)


def _sum(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.sha256(file.read(_LENGTH)).hexdigest()


if __name__ == "__main__":
    with served() as where:
        {"furnish": furnish, "verify": verify, "churn": churn}[sys.argv[1]](Machine(where))
        say(finished=sys.argv[1])
        if sys.argv[1] != "churn":
            # Until the power is cut.
            signal.pause()
