"""A pool that fills after the look and before the freeze."""

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from csi.dm.freezer import Freezer, Frozen
from csi.dm.targets import PoolMode
from csi.dm.thin_device import ThinDevice
from csi.errors import DriverError
from csi.units import MIB, Bytes
from csi.volumes import sentinel
from tests.faults.rounds import tell
from tests.faults.space.writing import free_blocks, map_blocks
from tests.kernel.conftest import run, wait_until
from tests.kernel.volumes.conftest import MakeServed
from tests.kernel.volumes.served import Served

_DIRTY = 4 * MIB
_LIMIT = 2.0 + 1.0
"""Seconds, and what a slow machine adds."""


@pytest.mark.parametrize("percent", [20.0, 95.0], ids=["room to extend into", "no room"])
def test_a_freeze_that_a_full_pool_holds_up_is_let_go_of_within_two_seconds_and_the_extension_goes_on(
    make_served: MakeServed, monkeypatch: pytest.MonkeyPatch, percent: float
) -> None:
    # A pool of a few blocks with as much ballast as a large one has.
    monkeypatch.setattr("csi.volumes.sentinel._SHARE", 10)
    monkeypatch.setattr("csi.volumes.pool._FREEZE_ROOM", Bytes(MIB))
    served = make_served(512 if percent < 50 else 268, thinp_percent=percent, min_free_space_percent=0)
    pool = served.pool
    wait_until(lambda: sentinel.ballast(pool) == sentinel.ballast_size(pool), 30)
    volume, other = served.create("v"), served.create("other", 200 * MIB, block=True)
    place, filler = Path(served.staged(volume)), served.staged(other)
    with open(place / "synced", "wb", buffering=0) as file:
        file.write(b"s" * MIB)
    run("sync", "--file-system", str(place))
    total = pool.thin.status().data_total
    # Up to right below the threshold.
    mapped = total * 78 // 100 - pool.thin.status(flush=True).data_used
    map_blocks(filler, pool, 0, mapped)

    freeze = Freezer.frozen
    held: list[float] = []

    @contextmanager
    def fill_and_freeze(freezer: Freezer, devices: Sequence[ThinDevice]) -> Iterator[Frozen]:
        while free := free_blocks(pool):
            nonlocal mapped
            map_blocks(filler, pool, mapped, free)
            mapped += free
        # Now, or the journal is written out by itself while the pool is filled, and waits for space before the freeze.
        (place / "dirty").write_bytes(b"d" * _DIRTY)
        begun = time.monotonic()
        try:
            with freeze(freezer, devices) as frozen:
                yield frozen
        finally:
            held.append(time.monotonic() - begun)

    monkeypatch.setattr(Freezer, "frozen", fill_and_freeze)
    outcome = _outcome_of_a_snapshot(served, volume.handle)
    tell(f"held up for {held[0]:.2f} s; the snapshot: {outcome or 'cut'}")
    assert held[0] < _LIMIT
    monkeypatch.setattr(Freezer, "frozen", freeze)
    if percent < 50:
        wait_until(lambda: pool.thin.status().data_total > total, 30)
    wait_until(lambda: pool.thin.status().mode is PoolMode.READ_WRITE, 30)
    run("sync", "--file-system", str(place))
    assert (place / "dirty").read_bytes() == b"d" * _DIRTY
    assert served.node.volume_health(volume.handle) == []
    served.unstage(volume)
    served.staged(volume)
    assert (place / "synced").read_bytes() == b"s" * MIB
    assert (place / "dirty").read_bytes() == b"d" * _DIRTY


def _outcome_of_a_snapshot(served: Served, handle: object) -> str:
    """Ask for a snapshot, in a thread that may hang; return the error, '' for none."""
    answers: list[str] = []

    def ask() -> None:
        try:
            served.node.create_snapshot("s", handle)  # type: ignore[arg-type]
            answers.append("")
        except DriverError as error:
            answers.append(str(error))

    asking = threading.Thread(target=ask, daemon=True)
    asking.start()
    asking.join(60)
    assert answers, "the snapshot hangs"
    return answers[0]
