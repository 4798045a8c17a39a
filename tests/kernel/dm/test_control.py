"""Device-mapper by ioctl, on a real kernel."""

import errno
import os
from pathlib import Path

import pytest

from csi.dm import block
from csi.dm.ioctl import Control
from csi.dm.targets import Linear
from csi.errors import KernelError, UnavailableError
from csi.units import MIB, Bytes, Sectors, sectors
from tests.kernel.conftest import BarePool, MakeDisk, wait_until


def test_a_missing_control_device_says_what_to_load() -> None:
    with pytest.raises(UnavailableError, match="modprobe dm-mod"):
        Control("/dev/mapper/no-such-control")


def test_a_control_path_that_is_a_file_is_refused(tmp_path: Path) -> None:
    path = f"{tmp_path}/control"
    with open(path, "x"):
        pass
    with pytest.raises(UnavailableError, match="not a device"):
        Control(path)


def test_versions_tell_the_interface_and_the_targets(control: Control) -> None:
    assert control.version() >= (4, 37, 0)
    versions = control.target_versions()
    assert versions["thin-pool"] >= (1, 20, 0)
    assert "thin" in versions
    assert "linear" in versions


def test_a_device_goes_through_its_states(control: Control, make_disk: MakeDisk) -> None:
    disk = make_disk(Bytes(4 * MIB))
    made = control.create("test-states", "TEST-states")
    assert (made.name, made.uuid, made.has_live_table, made.has_inactive_table) == (
        "test-states",
        "TEST-states",
        False,
        False,
    )
    assert control.table("test-states") == []
    control.load("test-states", [Linear(sectors(Bytes(2 * MIB)), disk).line()])
    info = control.info("test-states")
    assert info is not None
    assert (info.has_live_table, info.has_inactive_table) == (False, True)
    live = control.resume("test-states")
    assert (live.has_live_table, live.has_inactive_table, live.suspended) == (True, False, False)
    assert control.info_by_uuid("TEST-states") == control.info("test-states")
    assert os.path.exists(live.path)
    assert block.size(live.path) == 2 * MIB
    assert block.node(live.number) == live.path
    assert Linear.parse(control.table("test-states")[0]).length == sectors(Bytes(2 * MIB))

    control.suspend("test-states")
    suspended = control.info("test-states")
    assert suspended is not None
    assert suspended.suspended
    control.load("test-states", [Linear(sectors(Bytes(4 * MIB)), disk).line()], readonly=True)
    control.clear("test-states")
    assert not control.resume("test-states").suspended
    assert block.size(live.path) == 2 * MIB

    with open(live.path, "rb"):
        with pytest.raises(KernelError) as caught:
            control.remove("test-states")
        assert caught.value.errno == errno.EBUSY
    control.remove("test-states")
    assert control.info("test-states") is None
    assert control.info_by_uuid("TEST-states") is None


def test_a_deferred_removal_waits_for_the_last_close(control: Control, make_disk: MakeDisk) -> None:
    disk = make_disk(Bytes(4 * MIB))
    control.create("test-deferred")
    control.load("test-deferred", [Linear(Sectors(8), disk).line()])
    info = control.resume("test-deferred")
    with open(info.path, "rb"):
        control.remove("test-deferred", deferred=True)
        assert control.info("test-deferred") is not None
    wait_until(lambda: control.info("test-deferred") is None)


def test_refusals_name_operation_device_and_errno(control: Control) -> None:
    control.create("test-taken", "TEST-taken")
    for name, uuid in (("test-taken", "TEST-other"), ("test-other", "TEST-taken")):
        with pytest.raises(KernelError, match=f"create device {name}.*EBUSY"):
            control.create(name, uuid)
    with pytest.raises(KernelError, match=r"resume device test-missing.*ENXIO"):
        control.resume("test-missing")
    with pytest.raises(KernelError, match=r"load table test-taken.*ENODEV"):
        control.load("test-taken", [Linear(Sectors(8), "/dev/no-such-disk").line()])
    with pytest.raises(ValueError, match="not a device-mapper name"):
        control.info("x" * 128)


def test_an_answer_larger_than_the_buffer_is_asked_for_again(control: Control) -> None:
    names = {f"test-many-{number:03}-{'x' * 100}" for number in range(150)}
    for name in names:
        control.create(name)
    listed = {device.name: device for device in control.devices()}
    assert names <= set(listed)
    info = control.info(min(names))
    assert info is not None
    assert (listed[info.name].major, listed[info.name].minor) == (info.major, info.minor)


def test_a_table_of_many_lines_comes_back_whole(control: Control, make_disk: MakeDisk) -> None:
    disk = make_disk(Bytes(4 * MIB))
    lines = [Linear(Sectors(8), disk, Sectors(8 * (999 - n)), Sectors(8 * n)).line() for n in range(1000)]
    control.create("test-lines")
    control.load("test-lines", lines)
    control.resume("test-lines")
    table = [Linear.parse(line) for line in control.table("test-lines")]
    assert [(line.start, line.length, line.offset) for line in table] == [
        (8 * n, 8, 8 * (999 - n)) for n in range(1000)
    ]


def test_a_message_can_answer(control: Control, pool: BarePool) -> None:
    assert pool.name
    with pytest.raises(KernelError, match=r"send message 'no_such_message' test-pool.*EINVAL"):
        control.message("test-pool", "no_such_message")
    # Answered by the device-mapper itself, for every target.
    assert control.message("test-data", "@stats_create - /1") == "0"
