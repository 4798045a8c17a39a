"""Group snapshots: one point in time for all members, under load, and nothing in between."""

import itertools
import os
import struct
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from csi.errors import ExistsError, InvalidRequestError, NotFoundError, UnavailableError
from csi.model import Device, FsType, Group, GroupHandle, GroupId, Handle, ThinId
from csi.units import MIB
from tests.kernel.conftest import wait_until
from tests.kernel.volumes.served import Served

_SLOTS = 4096
_GROUPS = 6
_SLOT = struct.Struct("=Q")
# A freeze lasts 2 s at most; what a slow machine adds to that.
_FREEZE_LIMIT = 2.0 + 3.0


class Writer:
    """Writes 1, 2, 3, … to several files or devices in turn, each number durable before the next is begun."""

    def __init__(self, paths: Sequence[str]) -> None:
        self._files = [open(path, "r+b", buffering=0) for path in paths]  # noqa: SIM115 - closed by stop()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.written = 0
        self.longest = 0.0
        """The longest that one number took, in seconds."""
        self._thread.start()

    def _run(self) -> None:
        count = len(self._files)
        for number in itertools.count(1):
            if self._stop.is_set() or number >= _SLOTS * count:
                return
            begun = time.monotonic()
            file = self._files[number % count]
            os.pwrite(file.fileno(), _SLOT.pack(number), number // count % _SLOTS * _SLOT.size)
            os.fsync(file.fileno())
            self.written = number
            self.longest = max(self.longest, time.monotonic() - begun)

    def wait_for_more(self, count: int) -> None:
        """Wait until so many more numbers were written."""
        wanted = self.written + count
        wait_until(lambda: self.written >= wanted, 30)

    def stop(self) -> None:
        self._stop.set()
        self._thread.join(30)
        for file in self._files:
            file.close()


@pytest.fixture
def sources(served: Served) -> list[Device]:
    """Make volumes of every kind: two of ext4, one of xfs, one raw."""
    return [
        served.create("ext4-1"),
        served.create("ext4-2"),
        served.create("xfs", 300 * MIB, fs_type=FsType.XFS),
        served.create("raw", 16 * MIB, block=True),
    ]


@pytest.fixture
def writer(served: Served, sources: list[Device]) -> Iterator[Writer]:
    """Let somebody write to all of them in turn."""
    paths = [_file_of(source, served.staged(source)) for source in sources]
    for path in paths:
        if not path.startswith(served.path("target")):
            Path(path).write_bytes(bytes(_SLOTS * _SLOT.size))
    writer = Writer(paths)
    yield writer
    writer.stop()


def _file_of(volume: Device, path: str) -> str:
    return path if volume.fs_type is None else f"{path}/numbers"


def _numbers(served: Served, group: Group) -> set[int]:
    """Restore every member and return all the numbers that they hold together."""
    found: set[int] = set()
    for member in group.members:
        restored = served.copy(f"r-{member.handle}", member.handle, block=member.fs_type is None)
        path = _file_of(restored, served.staged(restored))
        with open(path, "rb") as file:
            found |= {number for (number,) in _SLOT.iter_unpack(file.read(_SLOTS * _SLOT.size))}
        served.unstage(restored)
        served.node.delete_volume(restored.handle)
    return found - {0}


def test_no_group_holds_a_later_write_without_all_the_earlier_ones(
    served: Served, sources: list[Device], writer: Writer
) -> None:
    groups = []
    for number in range(_GROUPS):
        writer.wait_for_more(10)
        before = writer.written
        groups.append((before, served.node.create_group(f"g{number}", [source.handle for source in sources])))
        after = writer.written
        assert after < before + 1000
    writer.wait_for_more(10)
    assert writer.longest < _FREEZE_LIMIT
    writer.stop()
    for before, group in groups:
        numbers = _numbers(served, group)
        # Everything durable before the group was asked for, and no number without those before it.
        assert max(numbers) >= before
        assert numbers == set(range(1, max(numbers) + 1))


def test_a_freeze_that_lasts_too_long_is_broken_off_and_a_retry_takes_new_ids(
    served: Served, sources: list[Device], writer: Writer, monkeypatch: pytest.MonkeyPatch
) -> None:
    handles = [source.handle for source in sources]
    cut = served.pool.thin.create_snap
    tried: list[ThinId] = []

    def slow(thin: ThinId, origin: ThinId, *, confirm: bool) -> None:
        tried.append(thin)
        if len(tried) == 2:
            # All four are frozen: it is the guard who lets them go.
            writer.wait_for_more(5)
        cut(thin, origin, confirm=confirm)

    monkeypatch.setattr(served.pool.thin, "create_snap", slow)
    begun = time.monotonic()
    with pytest.raises(UnavailableError, match="longer than 2 s"):
        served.node.create_group("g", handles)
    assert time.monotonic() - begun < 30
    writer.wait_for_more(5)
    assert writer.longest < _FREEZE_LIMIT
    assert served.node.snapshots() == []
    assert served.pool.catalog.group_named("g") is None

    first = list(tried)
    group = served.node.create_group("g", handles)
    assert not {member.handle.thin for member in group.members} & set(first)
    writer.stop()
    numbers = _numbers(served, group)
    assert numbers == set(range(1, max(numbers) + 1))
    served.reclaimed()
    assert {device.handle.thin for device in served.node.snapshots()} == {m.handle.thin for m in group.members}


def test_a_group_is_found_again_by_its_name_and_goes_as_a_whole(served: Served) -> None:
    volumes = [served.create(name) for name in ("a", "b")]
    handles = [volume.handle for volume in volumes]
    group = served.node.create_group("g", handles)
    assert [member.content_source for member in group.members] == [str(handle) for handle in handles]
    assert served.node.create_group("g", handles[::-1]) == group
    assert served.node.group(group.handle) == group
    with pytest.raises(ExistsError, match="of other volumes"):
        served.node.create_group("g", handles[:1])
    with pytest.raises(InvalidRequestError, match=f"belongs to the group snapshot {group.handle}"):
        served.node.delete_snapshot(group.members[0].handle)
    with pytest.raises(InvalidRequestError, match="not the group's members"):
        served.node.delete_group(group.handle, [group.members[0].handle])
    served.node.delete_group(group.handle, [member.handle for member in group.members])
    served.node.delete_group(group.handle, [])
    with pytest.raises(NotFoundError):
        served.node.group(group.handle)
    assert served.node.snapshots() == []


def test_a_group_with_a_volume_that_is_not_there_cuts_nothing(served: Served) -> None:
    volume = served.create("a")
    gone = Handle(volume.handle.pool, ThinId(volume.handle.thin + 1000))
    with pytest.raises(NotFoundError, match=str(gone)):
        served.node.create_group("g", [volume.handle, gone])
    assert served.node.snapshots() == []
    with pytest.raises(NotFoundError):
        served.node.group(GroupHandle(volume.handle.pool, GroupId(4711)))
