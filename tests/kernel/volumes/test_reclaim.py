"""Deletion answers at once, and the space comes back behind it without holding anybody up."""

import itertools
import os
import threading
import time
from pathlib import Path

import pytest

from csi.dm import block
from csi.dm.targets import ThinPoolStatus
from csi.dm.thin_pool import ThinPool
from csi.errors import StateError
from csi.model import State
from csi.units import KIB, MIB, Bytes
from csi.volumes import sentinel
from tests.kernel.conftest import wait_until
from tests.kernel.volumes.served import Served, pool_devices

_BIG = 200 * MIB
_STALL_LIMIT = 5.0


def _fill(path: str, size: int) -> None:
    with open(path, "wb", buffering=0) as device:
        device.writelines(b"x" * MIB for _ in range(size // MIB))
        os.fsync(device.fileno())


def test_a_big_volume_goes_in_slices_while_others_write(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    wait_until(lambda: sentinel.ballast(served.pool) == sentinel.ballast_size(served.pool), 60)
    slices: list[int] = []
    discard = block.discard

    def counted(device: str | int, offset: Bytes, length: Bytes) -> None:
        slices.append(length)
        discard(device, offset, length)

    monkeypatch.setattr(block, "discard", counted)
    big, other = served.create("big", _BIG, block=True), served.create("other", 32 * MIB, block=True)
    _fill(served.staged(big), _BIG)
    served.unstage(big)
    used = served.pool.thin.status(flush=True).data_used
    target = served.staged(other)
    stop = threading.Event()
    stalls: list[float] = []

    def write() -> None:
        with open(target, "r+b", buffering=0) as device:
            for number in itertools.count():
                if stop.is_set():
                    return
                begun = time.monotonic()
                device.seek(number % 512 * 64 * KIB)
                device.write(bytes([number % 256]) * 4 * KIB)
                os.fsync(device.fileno())
                stalls.append(time.monotonic() - begun)

    writer = threading.Thread(target=write)
    writer.start()
    wait_until(lambda: stalls)
    begun = time.monotonic()
    served.node.delete_volume(big.handle)
    answered = time.monotonic() - begun
    written = len(stalls)
    served.reclaimed()
    stop.set()
    writer.join(30)
    assert answered < _STALL_LIMIT
    assert len(stalls) > written
    assert max(stalls) < _STALL_LIMIT
    assert len(slices) == 25
    assert max(slices) == 8 * MIB
    assert served.pool.thin.status(flush=True).data_used <= used - _BIG // served.pool.block_size + 512
    assert big.handle.device not in pool_devices()
    assert served.pool.catalog.device(big.handle.thin) is None


@pytest.mark.parametrize(
    ("mapped", "others", "least", "most"), [(MIB, True, 0, 1), (_BIG, True, 2, 24), (_BIG, False, 0, 0)]
)
def test_what_is_unmapped_is_committed_as_it_goes_where_others_would_wait(
    served: Served, monkeypatch: pytest.MonkeyPatch, mapped: int, least: int, most: int, *, others: bool
) -> None:
    if others:
        served.staged(served.create("other"))
    volume = served.create("v", _BIG, block=True)
    with open(served.staged(volume), "r+b", buffering=0) as device:
        # The end, as file systems do: every slice before it is looked at.
        device.seek(_BIG - mapped)
        device.writelines(b"x" * MIB for _ in range(mapped // MIB))
        os.fsync(device.fileno())
    served.unstage(volume)
    commits: list[bool] = []
    status = ThinPool.status

    def counted(pool: ThinPool, *, flush: bool = False) -> ThinPoolStatus:
        commits.extend([True] * flush)
        return status(pool, flush=flush)

    monkeypatch.setattr(ThinPool, "status", counted)
    served.node.delete_volume(volume.handle)
    served.reclaimed()
    assert least <= len(commits) <= most


def test_snapshots_and_clones_outlive_their_origin_and_keep_what_they_share(served: Served) -> None:
    volume = served.create("v")
    Path(served.staged(volume), "file").write_bytes(b"kept" * MIB)
    snapshot = served.node.create_snapshot("s", volume.handle)
    clone = served.copy("c", volume.handle)
    served.unstage(volume)
    served.node.delete_volume(volume.handle)
    served.reclaimed()
    restored = served.copy("r", snapshot.handle)
    served.node.delete_snapshot(snapshot.handle)
    served.reclaimed()
    for copy in (clone, restored):
        assert Path(served.staged(copy), "file").read_bytes() == b"kept" * MIB
    assert served.node.check().findings == ()


def test_what_is_open_is_not_deleted_and_a_name_is_free_at_once(served: Served) -> None:
    volume = served.create("v")
    with served.raw(volume) as path, open(path, "rb"), pytest.raises(StateError, match="opened 1 times"):
        served.node.delete_volume(volume.handle)
    served.node.delete_volume(volume.handle)
    assert served.create("v").handle != volume.handle
    # It was active for a moment, for its space to be given back.
    served.reclaimed()
    assert not served.active(volume.handle)


def test_what_is_held_open_while_it_is_given_back_is_tried_again(served: Served) -> None:
    volume = served.create("v")
    with served.raw(volume) as path, open(path, "rb"):
        # Answered as deleted by a catalog that did not see the other user.
        served.pool.catalog.delete([volume])
        served.pool.reclaim_wanted.set()
        wait_until(lambda: "it is open" in served.pool.reclaim_trouble.get(volume.handle.thin, ""), 20)
        assert [each.reason for each in served.node.storage_health()] == ["ReclaimStuck"]
    served.reclaimed()
    assert served.node.storage_health() == []
    assert all(device.state is not State.DELETING for device in served.devices())
