"""Asking a node for volumes and snapshots, and telling the host what was asked and what was answered.

Each line on standard output is one JSON object, and so leaves the guest before the power does.
"""

import hashlib
import json
import os
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Final, TypeVar

from csi.cli.account import DemoError
from csi.cli.kubelet import Kubelet, Volume
from csi.units import MIB
from tests.faults.crash.order import written_in_order

SIZES: Final = {"ext4": 32 * MIB, "xfs": 320 * MIB, "btrfs": 128 * MIB, "": 32 * MIB}
"""The size of a volume by its file system; none is raw block."""

_ORDER: Final = "order"
"""The file that is written in one volume after the other, the same number in each."""

_LENGTH: Final = MIB
_PATIENCE: Final = 120.0
_PAUSE: Final = 0.2
_AGAIN: Final = ("UNAVAILABLE", "ABORTED", "DEADLINE_EXCEEDED")

_Answer = TypeVar("_Answer")


@dataclass(frozen=True)
class Thing:
    """A volume or a snapshot, and the checksum of what is in it."""

    id: str
    name: str
    fs_type: str
    sum: str
    volume: bool
    size: int = 0
    group: str = ""
    """The group snapshot that it is part of."""

    @property
    def known(self) -> Volume:
        """The volume as its callers know it."""
        return Volume(self.id, self.name, self.size, block=not self.fs_type)


class Machine:
    """Asks a node, which may be killed at any time: each call is repeated until it is answered, as callers do."""

    def __init__(self, socket: str, directory: Path) -> None:
        self._by_type = {fs: Kubelet(socket, directory, fs or "ext4") for fs in SIZES}
        self.any = self._by_type[""]
        self._orders: dict[str, int] = {}
        """What members of groups held that was written in order, by id."""

    def volume(self, name: str, fs_type: str = "ext4", source: Thing | None = None, size: int = 0) -> Thing:
        """Make a volume, with something of its own in it or with what ``source`` holds, and leave it in use."""
        if source is not None:
            fs_type, size = source.fs_type, size or source.size
        size = size or SIZES[fs_type]
        say(making={"name": name, "fs_type": fs_type, "source": source and asdict(source), "size": size})
        kubelet = self._by_type[fs_type]
        of = {} if source is None else {"volume" if source.volume else "snapshot": source.id}
        made = again(lambda: kubelet.create(name, size, block=not fs_type, **of))
        path = _data(again(lambda: kubelet.use(made)))
        if source is None:
            _write(path, os.urandom(_LENGTH))
        thing = Thing(made.id, name, fs_type, _sum(path), volume=True, size=size)
        assert source is None or thing.sum == source.sum, f"{name} is not what {source.name} was"
        say(made=[asdict(thing)])
        return thing

    def snapshot(self, name: str, source: Thing) -> Thing:
        """Cut a snapshot."""
        say(making={"name": name, "snapshot": source.id})
        made = again(lambda: self.any.snapshot(name, source.known))
        thing = Thing(made, name, source.fs_type, source.sum, False, source.size)
        say(made=[asdict(thing)])
        return thing

    def group(self, name: str, sources: Sequence[Thing]) -> list[Thing]:
        """Cut snapshots of several volumes in use at once, while they are written one after the other."""
        say(making={"name": name, "group": [source.id for source in sources]})
        targets = [self.any.target(source.known) for source in sources if source.fs_type]
        with written_in_order([target / _ORDER for target in targets]):
            group, members = again(lambda: self.any.snapshot_group(name, [source.known for source in sources]))
        things = [
            Thing(members[source.id], name, source.fs_type, source.sum, False, source.size, group) for source in sources
        ]
        say(made=[asdict(thing) for thing in things])
        return things

    def rewrite(self, thing: Thing) -> Thing:
        """Replace what is in a volume's file system; return the volume as it is now."""
        path = _data(self.any.target(thing.known))
        data = os.urandom(_LENGTH)
        now = replace(thing, sum=hashlib.sha256(data).hexdigest())
        say(changing=thing.id, to=asdict(now))
        fresh = path.with_name("new")
        _write(fresh, data)
        fresh.rename(path)
        _sync(path.parent)
        say(changed=asdict(now))
        return now

    def grow(self, thing: Thing, size: int) -> Thing:
        """Make a volume larger; return it as it is now."""
        now = replace(thing, size=size)
        say(changing=thing.id, to=asdict(now))
        again(lambda: self._by_type[thing.fs_type].grow(thing.known, size))
        say(changed=asdict(now))
        return now

    def delete(self, *things: Thing) -> None:
        """Release and delete a volume, or delete a snapshot or all members of a group; they may be gone."""
        thing = things[0]
        say(deleting=[each.id for each in things])
        if thing.volume:
            again(lambda: self.any.release(thing.known))
            again(lambda: self._delete_volume(thing))
        elif thing.group:
            again(lambda: self._delete_group(things))
        else:
            again(lambda: self._delete_snapshot(thing))
        say(gone=[each.id for each in things])

    def _delete_volume(self, thing: Thing) -> None:
        self.any.volumes[thing.id] = thing.known
        self.any.delete(thing.known)

    def _delete_snapshot(self, thing: Thing) -> None:
        self.any.snapshots.append(thing.id)
        self.any.delete_snapshot(thing.id)

    def _delete_group(self, things: Sequence[Thing]) -> None:
        self.any.groups[things[0].group] = [each.id for each in things]
        self.any.delete_group(things[0].group)

    def retry(self, making: dict[str, object]) -> None:
        """Ask once more for what was not answered, as an orchestrator does, and take it away."""
        name = str(making["name"])
        if "snapshot" in making:
            known = Volume(str(making["snapshot"]), name, 0, block=False)
            self.any.delete_snapshot(again(lambda: self.any.snapshot(name, known)))
        elif "group" in making:
            members = making["group"]
            assert isinstance(members, list)
            sources = [Volume(member, member, 0, block=False) for member in members]
            made, _ = again(lambda: self.any.snapshot_group(name, sources))
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

    def holds(self, thing: Thing, name: str) -> str:
        """See that a volume or a snapshot is there, of its size; return its content's checksum.

        A volume is in use afterwards.
        """
        kubelet = self._by_type[thing.fs_type]
        if thing.volume:
            return _seen(kubelet.use(thing.known), thing)
        say(making={"name": name, "fs_type": thing.fs_type, "source": asdict(thing), "size": thing.size})
        copy = kubelet.create(name, thing.size, block=not thing.fs_type, snapshot=thing.id)
        target = kubelet.use(copy)
        found = _seen(target, thing)
        if thing.group and thing.fs_type:
            self._orders[thing.id] = int((target / _ORDER).read_text())
        kubelet.release(copy)
        kubelet.delete(copy)
        say(settled=name)
        return found

    def cut_at_once(self, members: Sequence[Thing]) -> None:
        """See that no member of a group that was held lacks what another was written after."""
        orders = [self._orders[member.id] for member in members if member.fs_type]
        assert orders == sorted(orders, reverse=True), f"{members} hold {orders}"
        assert not orders or orders[0] - orders[-1] <= 1, f"{members} hold {orders}"


def together(things: Iterable[Thing]) -> list[tuple[Thing, ...]]:
    """Return what is deleted together: members of a group, everything else by itself."""
    by_group: dict[str, list[Thing]] = {}
    for thing in things:
        by_group.setdefault(thing.group or thing.id, []).append(thing)
    return [tuple(each) for each in by_group.values()]


def again(call: Callable[[], _Answer]) -> _Answer:
    """Return what ``call`` does, called again while the node is away or at work on the same thing."""
    deadline = time.monotonic() + _PATIENCE
    while True:
        try:
            return call()
        except DemoError as error:
            passing = any(f": {code}: " in str(error) for code in _AGAIN)
            if not passing or time.monotonic() > deadline:
                raise
            time.sleep(_PAUSE)


def say(**what: object) -> None:
    """Tell the host, in one write: other threads speak too."""
    os.write(1, f"{json.dumps(what)}\n".encode())


def _seen(target: Path, thing: Thing) -> str:
    if target.is_dir():
        room = os.statvfs(target)
        size = room.f_blocks * room.f_frsize * 10 // 7  # a file system keeps some for itself
    else:
        with target.open("rb") as device:
            size = device.seek(0, os.SEEK_END)
    assert size >= thing.size, f"{thing} has become smaller: {size}"
    return _sum(_data(target))


def _data(target: Path) -> Path:
    return target / "data" if target.is_dir() else target


def _write(path: Path, data: bytes) -> None:
    with path.open("r+b" if path.is_block_device() else "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    if path.is_file():
        _sync(path.parent)


def _sync(directory: Path) -> None:
    opened = os.open(directory, os.O_RDONLY)
    os.fsync(opened)
    os.close(opened)


def _sum(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.sha256(file.read(_LENGTH)).hexdigest()
