"""Device-mapper events reach a waiter."""

import os
import threading
import time

import pytest

from csi.dm.events import EventWatch
from csi.errors import UnavailableError
from csi.units import MIB, Bytes
from tests.kernel.conftest import MakePool


def test_an_event_comes_at_the_low_water_mark(make_pool: MakePool) -> None:
    pool = make_pool(64 * MIB, low_water=16 * 16)  # 16 MiB of blocks of 64 KiB
    path = pool.activated(1, Bytes(64 * MIB)).path
    with EventWatch() as watch, open(path, "wb", buffering=0) as device:
        device.write(b"x" * (40 * MIB))
        os.fsync(device.fileno())
        assert not watch.wait(0)
        device.write(b"x" * (16 * MIB))
        os.fsync(device.fileno())
        assert watch.wait(10)
        status = pool.status()
        assert status.data_total - status.data_used < 16 * 16
        # Told once.
        assert not watch.wait(0)


def test_an_event_before_the_wait_is_not_lost(make_pool: MakePool) -> None:
    pool = make_pool()
    with EventWatch() as watch:
        pool.activated(1, Bytes(MIB))
        pool.device(1).deactivate()
        assert watch.wait(10)


def test_a_wait_ends_at_its_timeout_and_when_woken(make_pool: MakePool) -> None:
    make_pool()
    with EventWatch() as watch:
        while watch.wait(0.1):
            pass
        begun = time.monotonic()
        assert not watch.wait(0.2)
        assert time.monotonic() - begun >= 0.19
        waker = threading.Timer(0.2, watch.wake)
        waker.start()
        begun = time.monotonic()
        assert not watch.wait(60)
        assert time.monotonic() - begun < 30
        waker.join()
        watch.wake()
        assert not watch.wait(60)


def test_a_watch_without_device_mapper_is_refused() -> None:
    with pytest.raises(UnavailableError):
        EventWatch("/dev/no-such-control")
