"""Pools on real disks: made, found, adopted, activated, extended."""

import dataclasses
import os
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from csi.dm.ioctl import Control
from csi.dm.targets import ThinPoolTable
from csi.errors import (
    DevicesRefusedError,
    ForeignPoolError,
    NoSpaceError,
    StateError,
    UnavailableError,
)
from csi.lvm import layout
from csi.lvm.pool_group import PoolGroup
from csi.lvm.runner import Lvm
from csi.model import PoolId
from csi.settings import LoopSize, Mode, PoolSpec
from csi.units import GIB, KIB, MIB, Bytes
from tests.kernel.conftest import MakeDisk, run
from tests.kernel.lvm.conftest import BIG, NODE, SMALL, lvm, opened, status, try_lvm

_EXTENT = 4 * MIB


@pytest.mark.parametrize("sizes", [(BIG,), (BIG, Bytes(6 * GIB))], ids=["one disk", "two disks"])
def test_direct_lvm_gives_what_dockers_percentages_give(
    sizes: tuple[Bytes, ...], make_disk: MakeDisk, state: Path, control: Control
) -> None:
    model = [make_disk(size) for size in sizes]
    shown = [word for disk in model for word in ("--devices", disk)]
    lvm("vgcreate", *shown, "--setautoactivation", "n", "docker", *model)
    for name, share in (("thinpool", "95%VG"), ("thinpoolmeta", "1%VG")):
        lvm("lvcreate", *shown, "--yes", "--activate", "n", "-Zn", "--name", name, "--extents", share, "docker")
    report = ("--noheadings", "--units", "b", "--nosuffix", "--options", "lv_size", "docker")
    docker = [int(size) for size in lvm("lvs", *shown, *report).split()]

    disks = [make_disk(size) for size in sizes]
    group = opened(PoolSpec("fast", devices=tuple(disks)), state)
    assert sorted(group.devices) == sorted(disks)
    assert [group.data_size, group.metadata_size] == docker
    assert group.block_size == 64 * KIB
    extents = sum(size // _EXTENT - 1 for size in sizes)
    assert group.data_size == extents * 95 // 100 * _EXTENT
    # Left: the VG less data, metadata, its spare, and the catalog of 1 % (128 MiB at most).
    catalog = min(extents // 100, 32)
    free = extents - (group.data_size + 2 * group.metadata_size) // _EXTENT - catalog
    reserve = 2 * layout.metadata_step(group.metadata_size, 20) // _EXTENT
    assert group.room == layout.Room(Bytes((free - reserve) * _EXTENT), Bytes(free // 2 * _EXTENT))
    assert layout.no_extension_room(group.room, group.data_size, 20)

    info = control.info_by_uuid(group.pool_uuid)
    assert info is not None
    table = ThinPoolTable.parse(control.table(info.name)[0])
    assert table.block_size == 64 * KIB
    assert not table.error_if_no_space
    # A fifth of the blocks, for the event at 80 %.
    assert abs(table.low_water - group.data_size // (64 * KIB) // 5) <= 1
    assert "skip_block_zeroing" not in control.table(info.name)[0].params
    assert status(control, group).transaction_id == 0


def test_loop_lvm_keeps_data_and_metadata_in_two_sparse_files(state: Path, control: Control) -> None:
    spec = PoolSpec("try", mode=Mode.LOOP, loop=LoopSize(Bytes(20 * GIB), Bytes(GIB)))
    group = opened(spec, state)
    data, metadata = group.loop_data, group.loop_metadata
    assert data is not None
    assert metadata is not None
    assert group.devices == (data.device, metadata.device)
    assert data.file.stat().st_size == 20 * GIB
    assert metadata.file.stat().st_size == GIB
    assert all(file.file.stat().st_blocks * 512 < 64 * MIB for file in (data, metadata))
    assert group.data_size == 20 * GIB - _EXTENT
    assert group.room.data == 0
    assert group.room.metadata > 0
    for name, device in (("tdata", data.device), ("tmeta", metadata.device)):
        [line] = control.table(f"{group.pool_name}_{name}")
        assert line.params.split()[0] == re.sub(r"\s", "", Path(f"/sys/block/{device[5:]}/dev").read_text())
    before = group.metadata_size
    assert group.extend_metadata(Bytes(8 * MIB)) == before + 8 * MIB
    with pytest.raises(NoSpaceError):
        group.extend_data(Bytes(GIB))

    group.deactivate()
    assert run("losetup", "--noheadings", "--associated", str(data.file)) == ""
    again = opened(spec, state)
    assert again.pool_id == group.pool_id
    assert again.metadata_size == before + 8 * MIB
    again.deactivate()


def test_a_pool_is_found_again_and_an_active_one_with_one_command(
    disk: str, state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = PoolSpec("fast", devices=(disk,))
    assert PoolGroup.find(spec, NODE, state) is None
    made = opened(spec, state)
    commands = _recorded(monkeypatch)
    found = opened(spec, state)
    assert commands == ["fullreport"]
    assert found.pool_id == made.pool_id
    assert found.pool_uuid == made.pool_uuid
    assert found.active
    assert PoolGroup.find(PoolSpec("other", devices=(disk,)), NODE, state) is None
    with pytest.raises(DevicesRefusedError, match="pool fast of this driver"):
        PoolGroup.open(PoolSpec("other", devices=(disk,)), NODE, state)


def test_the_catalog_is_fresh_until_it_is_said_to_be_formatted(disk: str, state: Path) -> None:
    spec = PoolSpec("fast", devices=(disk,))
    group = opened(spec, state)
    said = [group.catalog_fresh, PoolGroup.open(spec, NODE, state).catalog_fresh]
    group.catalog_formatted()
    assert [*said, group.catalog_fresh] == [True, True, False]
    assert not PoolGroup.open(spec, NODE, state).catalog_fresh


def test_a_pool_of_another_node_is_left_alone_until_it_is_named(disk: str, state: Path) -> None:
    spec = PoolSpec("fast", devices=(disk,))
    theirs = PoolGroup.open(spec, "node-b", state / "b")
    with pytest.raises(ForeignPoolError, match=rf"{theirs.pool_id} of thinpool-csi.node-b.*adopt"):
        PoolGroup.open(spec, NODE, state)
    with pytest.raises(ForeignPoolError):
        PoolGroup.open(dataclasses.replace(spec, adopt=frozenset({PoolId("aaaaaaaaaa")})), NODE, state)
    with pytest.raises(DevicesRefusedError, match="pool fast of this driver"):
        PoolGroup.create(dataclasses.replace(spec, force=True), NODE, state)
    adopting = PoolSpec("slow", devices=(disk,), adopt=frozenset({theirs.pool_id}))
    ours = opened(adopting, state)
    assert ours.pool_id == theirs.pool_id
    # From now on it is found without the word.
    assert PoolGroup.open(PoolSpec("slow", devices=(disk,)), NODE, state).pool_id == theirs.pool_id
    with pytest.raises(ForeignPoolError, match=r"thinpool-csi.node-a"):
        PoolGroup.open(spec, "node-b", state / "b")


def test_two_pools_of_one_name_are_not_chosen_between(make_disk: MakeDisk, state: Path) -> None:
    disks = make_disk(SMALL), make_disk(SMALL)
    for disk in disks:
        PoolGroup.create(PoolSpec("fast", devices=(disk,)), NODE, state)
    with pytest.raises(StateError, match="several pools"):
        PoolGroup.open(PoolSpec("fast", devices=disks), NODE, state)


def test_one_disk_under_two_names_is_told(disk: str, tmp_path: Path, state: Path) -> None:
    """Two loop devices on one file, as two paths to one LUN without multipath."""
    group = PoolGroup.create(PoolSpec("fast", devices=(disk,)), NODE, state)
    file = Path(f"/sys/block/{os.path.basename(disk)}/loop/backing_file").read_text().strip()
    other = run("losetup", "--find", "--show", file).strip()
    try:
        with pytest.raises(StateError, match="two devices show the same physical volume"):
            PoolGroup.open(PoolSpec("fast", devices=(disk, other)), NODE, state)
        # Whoever is not named does not matter.
        assert PoolGroup.open(PoolSpec("fast", devices=(disk,)), NODE, state).pool_id == group.pool_id
        (tmp_path / "alias").symlink_to(disk)
        twice = PoolSpec("fast", devices=(disk, f"{tmp_path}/alias"))
        assert PoolGroup.open(twice, NODE, state).devices == (disk,)
    finally:
        run("losetup", "--detach", other)


def test_a_pool_with_a_disk_missing_is_unavailable(make_disk: MakeDisk, state: Path) -> None:
    disks = make_disk(SMALL), make_disk(SMALL)
    PoolGroup.create(PoolSpec("fast", devices=disks), NODE, state)
    with pytest.raises(UnavailableError, match="1 of its disks are missing"):
        PoolGroup.open(PoolSpec("fast", devices=disks[:1]), NODE, state)


def test_lvm_makes_no_volume_in_a_pool_that_the_driver_has_taken(disk: str, state: Path, control: Control) -> None:
    group = opened(PoolSpec("fast", devices=(disk,)), state)
    control.message(group.pool_name, "set_transaction_id 0 1")
    owner = 'global/system_id_source="lvmlocal" local/system_id="thinpool-csi.node-a"'
    common = ("--devices", disk, "--config", owner, "--yes", "--name", "x")
    pool = f"{group.vg_name}/pool"
    for request in (("-V", "1g", "-T", pool), ("-V", "1g", "--thinpool", "pool", group.vg_name)):
        done = try_lvm("lvcreate", *common, *request)
        assert done.returncode != 0
        assert "transaction id" in done.stderr
    done = try_lvm("lvcreate", *common[:2], "--yes", "--name", "x", "-V", "1g", "-T", pool)
    assert done.returncode != 0  # another machine's group altogether
    group.deactivate()
    group.activate()
    assert status(control, group).transaction_id == 1


def test_a_live_pool_is_extended_by_the_smaller_of_step_and_room(
    make_disk: MakeDisk, state: Path, control: Control, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = PoolSpec("fast", devices=(make_disk(BIG),), thinp_percent=50)
    group = opened(spec, state)
    control.message(group.pool_name, "set_transaction_id 0 1")
    control.message(group.pool_name, "create_thin 1")
    data, metadata, room = group.data_size, group.metadata_size, group.room
    assert not layout.no_extension_room(room, data, 20)
    assert group.extend_data(Bytes(GIB - 5)) == data + GIB
    assert status(control, group).data_total * 64 * KIB == data + GIB
    assert group.extend_metadata(Bytes(8 * MIB)) == metadata + 8 * MIB
    assert status(control, group).metadata_total * 4096 == metadata + 8 * MIB
    # The low-water mark follows the new size, and whoever else changes the table keeps it.
    table = ThinPoolTable.parse(control.table(group.pool_name)[0])
    assert abs(table.low_water - group.data_size // (64 * KIB) // 5) <= 1
    # All the rest, and not one extent of what metadata needs.
    left = group.room
    assert group.extend_data(Bytes(100 * GIB)) == data + GIB + left.data
    assert group.room.data == 0
    with pytest.raises(NoSpaceError, match="add a disk"):
        group.extend_data(Bytes(_EXTENT))
    assert group.extend_metadata(layout.metadata_step(group.metadata_size, 20)) > metadata
    assert status(control, group).healthy

    more = make_disk(SMALL)
    with monkeypatch.context() as patch:
        _cut_after(patch, 1)
        with pytest.raises(CutShortError):
            group.add_devices([more])
    group.add_devices([more])
    group.add_devices([more])
    assert more in group.devices
    assert group.room.data > 400 * MIB
    with pytest.raises(DevicesRefusedError, match="belongs to"):
        PoolGroup.create(PoolSpec("other", devices=(more,)), NODE, state)
    grown = PoolGroup.open(dataclasses.replace(spec, devices=(*spec.devices, more)), NODE, state)
    assert grown.devices == group.devices


class CutShortError(Exception):
    """The process ends here."""


@pytest.mark.parametrize(
    ("mode", "last"), [*((Mode.DIRECT, last) for last in range(1, 9)), (Mode.LOOP, 2), (Mode.LOOP, 6)]
)
def test_a_creation_cut_short_after_any_command_is_finished_by_the_next_start(
    mode: Mode, last: int, make_disk: MakeDisk, state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two disks or two files: pvcreate twice, vgcreate, lvcreate thrice, lvconvert, vgchange."""
    if mode is Mode.DIRECT:
        spec = PoolSpec("fast", devices=(make_disk(SMALL), make_disk(SMALL)))
    else:
        spec = PoolSpec("try", mode=mode, loop=LoopSize(Bytes(GIB), Bytes(256 * MIB)))
    with monkeypatch.context() as patch:
        _cut_after(patch, last)
        with pytest.raises(CutShortError):
            PoolGroup.open(spec, NODE, state)
    group = opened(spec, state)
    assert group.complete
    assert group.catalog_fresh
    assert len(group.devices) == 2
    assert list(state.glob("lvm/*")) == []
    shown = [word for disk in group.devices for word in ("--devices", disk)]
    names = lvm("lvs", *shown, "--foreign", "--all", "--noheadings", "--options", "lv_name").split()
    assert names == ["catalog", "[lvol0_pmspare]", "pool", "[pool_tdata]", "[pool_tmeta]"]
    group.deactivate()


def _cut_after(patch: pytest.MonkeyPatch, last: int) -> None:
    """Raise once the command number ``last`` that changes something is done."""
    done = 0

    def cut() -> None:
        nonlocal done
        done += 1
        if done == last:
            raise CutShortError

    _on_change(patch, lambda _command: cut())


def _recorded(patch: pytest.MonkeyPatch) -> list[str]:
    commands: list[str] = []
    run_it = Lvm.run

    def recording(self: Lvm, command: str, *args: str, **options: object) -> str:
        commands.append(command)
        return run_it(self, command, *args, **options)  # type: ignore[arg-type]

    patch.setattr(Lvm, "run", recording)
    return commands


def _on_change(patch: pytest.MonkeyPatch, then: Callable[[str], None]) -> None:
    run_it = Lvm.run

    def watched(self: Lvm, command: str, *args: str, **options: object) -> str:
        answer = run_it(self, command, *args, **options)  # type: ignore[arg-type]
        if command != "fullreport":
            then(command)
        return answer

    patch.setattr(Lvm, "run", watched)
