"""The catalog destroyed under a hundred volumes and snapshots: none is lost, and no old handle reaches a new volume."""

import os
import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import pytest

from csi.catalog.database import FILE_NAME
from csi.errors import DriverError, NotFoundError, StateError, UnavailableError
from csi.kube.claims import claims
from csi.model import DRIVER, Device, Handle, Kind
from csi.units import MIB, Bytes
from tests.faults.rounds import FACTOR, rounds, tell
from tests.kernel.volumes.conftest import MakeServed
from tests.kernel.volumes.served import Served

VOLUMES: Final = 60
SNAPSHOTS: Final = 40
DELETED: Final = 30
FORGOTTEN: Final = 10
"""What is deleted, and what no object names though it was never deleted."""

pytestmark = pytest.mark.timeout(300 + 200 * FACTOR)


def unlink(file: Path, _dice: random.Random) -> None:
    for each in file.parent.glob(f"{FILE_NAME}*"):
        each.unlink()


def cut_short(file: Path, dice: random.Random) -> None:
    os.truncate(file, dice.randrange(file.stat().st_size))


def overwrite(file: Path, dice: random.Random) -> None:
    with file.open("r+b") as stream:
        for place in range(0, file.stat().st_size, 4096):
            stream.seek(place)
            stream.write(dice.randbytes(512))


def zero_the_beginning(file: Path, _dice: random.Random) -> None:
    with file.open("r+b") as stream:
        stream.write(bytes(8192))


WAYS: Final = (unlink, cut_short, overwrite, zero_the_beginning)


def _persistent_volume(volume: Device) -> dict[str, Any]:
    mode = "Block" if volume.fs_type is None else "Filesystem"
    csi = {"driver": DRIVER, "volumeHandle": str(volume.handle)}
    spec = {"capacity": {"storage": str(volume.size)}, "volumeMode": mode, "csi": csi}
    return {"kind": "PersistentVolume", "metadata": {"name": volume.name}, "spec": spec}


def _content(snapshot: Device) -> dict[str, Any]:
    assert snapshot.name is not None
    uid = snapshot.name.removeprefix("snapshot-")
    return {
        "kind": "VolumeSnapshotContent",
        "metadata": {"name": f"snapcontent-{uid}"},
        "spec": {
            "driver": DRIVER,
            "source": {"volumeHandle": snapshot.content_source},
            "volumeSnapshotRef": {"uid": uid},
        },
        "status": {"snapshotHandle": str(snapshot.handle), "restoreSize": snapshot.size},
    }


def _objects(devices: Sequence[Device]) -> list[dict[str, Any]]:
    return [_persistent_volume(each) if each.kind is Kind.VOLUME else _content(each) for each in devices]


class Past:
    """What was made before the catalog went, with what was written."""

    def __init__(self, served: Served, dice: random.Random, about: str) -> None:
        self.text: dict[Handle, bytes] = {}
        volumes = [served.create(f"pvc-{about}-{number}", MIB, block=True) for number in range(VOLUMES)]
        for volume in volumes:
            self.text[volume.handle] = os.urandom(512)
            with served.raw(volume) as path:
                _write(path, self.text[volume.handle])
        snapshots = []
        for number in range(SNAPSHOTS):
            source = dice.choice(volumes)
            snapshots.append(served.node.create_snapshot(f"snapshot-{about}-{number}", source.handle))
            self.text[snapshots[-1].handle] = self.text[source.handle]
        things = [*volumes, *snapshots]
        dice.shuffle(things)
        self.gone, self.forgotten, self.kept = (
            things[:DELETED],
            things[DELETED:][:FORGOTTEN],
            things[DELETED + FORGOTTEN :],
        )
        for thing in self.gone:
            delete = served.node.delete_volume if thing.kind is Kind.VOLUME else served.node.delete_snapshot
            delete(thing.handle)

    @property
    def handles(self) -> set[Handle]:
        """Every handle that was ever handed out."""
        return {each.handle for each in (*self.gone, *self.forgotten, *self.kept)}


def _write(path: str, text: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY)
    try:
        os.pwrite(descriptor, text, 0)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _holds(served: Served, device: Device, text: bytes) -> bool:
    with served.raw(device) as path, open(path, "rb") as stream:
        return stream.read(len(text)) == text


def test_what_the_cluster_names_comes_back_and_no_old_handle_reaches_a_new_volume(make_served: MakeServed) -> None:
    times = rounds(len(WAYS) if FACTOR > 1 else 2)
    dice = times.dice()
    ways = [WAYS[number % len(WAYS)] for number in dice.sample(range(times.count * 2), times.count)]
    served = make_served(4096, overprovision_ratio=100.0)
    keeper = served.create("pvc-keeper")
    data = Path(served.staged(keeper), "data")
    data.write_bytes(b"before")
    ever: set[Handle] = {keeper.handle}
    for number, way in enumerate(ways):
        tell(f"round {number}: {way.__name__}")
        past = Past(served, dice, str(number))
        _disjoint(ever, past.handles)
        if dice.random() < 0.5:  # else some of them still wait for their space
            served.reclaimed()
        _destroy(served, way, dice)
        _stands_still(served, past, data)
        named = claims([*_objects([keeper, *past.kept])])
        served.node.check(rebuild=True, claims=named)
        _is_back(served, past, keeper)
        _old_handles_are_nobodys(served, past)
        served.node.check(rebuild=True, claims=claims(_objects(past.forgotten)))
        fresh = [served.create(f"new-{number}-{each}", MIB, block=True) for each in range(100)]
        _disjoint(ever, {each.handle for each in fresh})
        assert all(_holds(served, each, bytes(512)) for each in dice.sample(fresh, 5))
        for thing in (*fresh, *past.kept, *past.forgotten):
            delete = served.node.delete_snapshot if thing.kind is Kind.SNAPSHOT else served.node.delete_volume
            delete(thing.handle)
        served.reclaimed()
        assert data.read_bytes() == b"before"
    served.unstage(keeper)
    served.staged(keeper)
    assert data.read_bytes() == b"before"


def _disjoint(ever: set[Handle], now: set[Handle]) -> None:
    assert not ever & now, "a handle was used twice"
    ever |= now


def _destroy(served: Served, way: Callable[[Path, random.Random], None], dice: random.Random) -> None:
    file = served.pool.catalog_dir / FILE_NAME
    served.stop()
    way(file, dice)
    served.open()
    assert served.pool.guard.why


def _stands_still(served: Served, past: Past, data: Path) -> None:
    """See that what is in use goes on, that nothing is taken for gone, and nothing made or deleted."""
    data.with_name("during").write_bytes(b"during")
    os.sync()
    for thing in (*past.kept[:3], *past.gone[:3]):
        for ask in (served.node.volume, served.node.delete_volume, served.node.delete_snapshot):
            with pytest.raises(UnavailableError):
                ask(thing.handle)
    with pytest.raises(UnavailableError):
        served.create("during", MIB, block=True)
    assert served.node.storage_health()


def _is_back(served: Served, past: Past, keeper: Device) -> None:
    found = {device.handle: device for device in served.devices()}
    for thing in (keeper, *past.kept):
        now = found[thing.handle]
        assert (now.kind, now.name, now.content_source) == (thing.kind, thing.name, thing.content_source)
        assert now.size == thing.size
        assert thing is keeper or _holds(served, now, past.text[thing.handle])
    assert all(found[thing.handle].kind is Kind.QUARANTINED for thing in past.forgotten)
    # A repeated request finds what it made.
    volume = next(each for each in past.kept if each.kind is Kind.VOLUME)
    assert volume.name is not None
    assert served.create(volume.name, MIB, block=True).handle == volume.handle
    assert not [each for each in served.node.check().findings if "lost" in each.message]


def _old_handles_are_nobodys(served: Served, past: Past) -> None:
    for thing in past.gone:
        with pytest.raises((NotFoundError, StateError)):
            served.node.volume(thing.handle)
        with pytest.raises((NotFoundError, StateError)):
            served.node.expand_volume(thing.handle, Bytes(2 * MIB), Bytes(0))
        try:
            served.node.delete_volume(thing.handle)
        except DriverError as error:
            # Its space was not given back when the catalog went: nobody knows any more that it was to be.
            assert "quarantine" in str(error)  # noqa: PT017 - most do not raise
