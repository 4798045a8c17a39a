"""A clock that is set back under a node: what was made is kept, and everything goes on."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from csi.model import State
from csi.units import Bytes
from tests.kernel.volumes.conftest import MakeServed
from tests.kernel.volumes.served import SIZE

YEARS: Final = 5 * 365 * 86400.0


@contextmanager
def set_back(seconds: float) -> Iterator[None]:
    """Set the clock back for the body."""
    begun, now = time.monotonic(), time.time()
    time.clock_settime(time.CLOCK_REALTIME, now - seconds)
    try:
        yield
    finally:
        time.clock_settime(time.CLOCK_REALTIME, now + time.monotonic() - begun)


def test_volumes_live_on_when_the_clock_is_set_back_by_years(make_served: MakeServed) -> None:
    served = make_served(1024)
    volume = served.create("before")
    data = Path(served.staged(volume), "data")
    data.write_bytes(b"before")
    first = served.node.create_snapshot("first", volume.handle)
    with set_back(YEARS):
        second = served.node.create_snapshot("second", volume.handle)
        assert second.created < first.created
        made = served.copy("made", second.handle)
        assert Path(served.staged(made), "data").read_bytes() == b"before"
        assert served.node.expand_volume(volume.handle, Bytes(2 * SIZE), Bytes(0)).size == 2 * SIZE
        group = served.node.create_group("group", [volume.handle, made.handle])
        assert served.node.create_group("group", [volume.handle, made.handle]) == group
        served.unstage(made)
        served.node.delete_snapshot(first.handle)
        served.reclaimed()
        served.reboot()
        assert {device.state for device in served.devices()} == {State.READY}
        assert not served.node.check().findings
    assert Path(served.staged(volume), "data").read_bytes() == b"before"
    assert served.node.create_snapshot("third", volume.handle).handle.thin > second.handle.thin
    assert not served.node.check().findings
