"""Activation and deactivation: what comes up, what must not, and what nobody else may bring up."""

import os
from pathlib import Path

import pytest

from csi.dm.ioctl import Control
from csi.errors import CommandError, NeedsRepairError, UnavailableError
from csi.lvm.pool_group import NO_SPACE_TIMEOUT, PoolGroup
from csi.settings import PoolSpec, WhenFull
from tests.kernel.conftest import run
from tests.kernel.lvm.conftest import NODE, lvm, opened, status, sweep, try_lvm
from tests.kernel.metadata import Metadata


def test_a_pool_comes_back_after_its_devices_were_gone(disk: str, state: Path, control: Control) -> None:
    spec = PoolSpec("fast", devices=(disk,))
    group = opened(spec, state)
    catalog = group.catalog_path
    assert os.path.exists(catalog)
    assert group.catalog_active
    sweep(control)
    found = PoolGroup.open(spec, NODE, state)
    assert not found.active
    with pytest.raises(UnavailableError, match="not active"):
        _ = found.catalog_path
    found.activate()
    assert status(control, found).healthy
    found.deactivate()
    found.deactivate()
    assert not found.active
    assert not os.path.exists(f"/dev/{found.vg_name}")
    assert not _ours(control)


def test_nobody_elses_autoactivation_touches_a_pool(disk: str, state: Path, control: Control) -> None:
    group = PoolGroup.open(PoolSpec("fast", devices=(disk,)), NODE, state)
    group.activate()
    group.deactivate()
    lvm("vgchange", "--devices", disk, "--activate", "ay")
    try_lvm("vgchange", "--devices", disk, "--activate", "y", group.vg_name)
    assert not _ours(control)


def test_damaged_metadata_is_never_activated(disk: str, state: Path, control: Control) -> None:
    group = opened(PoolSpec("fast", devices=(disk,)), state)
    control.message(group.pool_name, "create_thin 1")
    metadata = Metadata.of(control, group.pool_name)
    group.deactivate()
    metadata.damage(*range(1, 65))
    found = PoolGroup.open(PoolSpec("fast", devices=(disk,)), NODE, state)
    with pytest.raises(NeedsRepairError, match="thinpool-csi repair --pool fast"):
        found.activate()
    found.refresh()
    assert not found.active


def test_a_pool_in_use_is_not_deactivated(disk: str, state: Path, control: Control) -> None:
    group = opened(PoolSpec("fast", devices=(disk,)), state)
    info = control.info_by_uuid(group.pool_uuid)
    assert info is not None
    run("dmsetup", "create", "test-user", "--table", f"0 8 linear {info.number} 0")
    with pytest.raises(CommandError, match="used by another device"):
        group.deactivate()
    run("dmsetup", "remove", "test-user")
    group.deactivate()


def test_when_full_is_set_in_the_table_and_in_the_kernels_limit(disk: str, state: Path, control: Control) -> None:
    NO_SPACE_TIMEOUT.write_text("60\n")
    group = opened(PoolSpec("fast", devices=(disk,), when_full=WhenFull.ERROR), state)
    assert not status(control, group).queue_if_no_space
    group.set_when_full(WhenFull.ERROR)
    assert NO_SPACE_TIMEOUT.read_text() == "60\n"
    group.set_when_full(WhenFull.WAIT)
    assert status(control, group).queue_if_no_space
    assert NO_SPACE_TIMEOUT.read_text() == "0\n"
    group.set_when_full(WhenFull.ERROR)
    assert not status(control, group).queue_if_no_space


def test_needs_check_is_cleared_only_on_the_administrators_word(disk: str, state: Path, control: Control) -> None:
    spec = PoolSpec("fast", devices=(disk,))
    group = opened(spec, state)
    control.message(group.pool_name, "create_thin 1")
    metadata = Metadata.of(control, group.pool_name)
    group.deactivate()
    metadata.need_check()
    found = PoolGroup.open(spec, NODE, state)
    for _ in range(2):
        with pytest.raises(NeedsRepairError, match="needs_check"):
            found.activate()
        assert not found.active
        assert control.info_by_uuid(found.pool_uuid) is None
    found.activate(clear_needs_check=True)
    assert status(control, found).healthy
    found.deactivate()
    found.activate()
    assert status(control, found).healthy


def _ours(control: Control) -> list[str]:
    return [device.name for device in control.devices() if device.name.startswith("thinpool-")]
