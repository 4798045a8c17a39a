"""Damaged metadata: the pool stays closed and says so, the command repairs it, and what is lost has a name."""

import signal
from collections.abc import Callable

import pytest

from csi.dm import thin_tools
from csi.errors import DriverError, NeedsRepairError
from csi.model import State
from csi.units import MIB, Bytes
from csi.volumes.health import closed_condition, pool_conditions
from csi.volumes.requests import VolumeRequest
from tests.kernel.metadata import Metadata, fail_writes
from tests.kernel.repair.conftest import Scene

ALL = {"one": True, "two": True, "three": True, "cut": True}
WAY_OUT = "run 'thinpool-csi repair --pool fast'"

# Each makes pools, damages them and starts the command and the node several times.
pytestmark = pytest.mark.timeout(400)


def damage_two(scene: Scene) -> None:
    """Overwrite one leaf of mappings of the volume ``two``, which shares none."""
    device, _ = scene.content["two"]
    scene.metadata.damage(scene.metadata.leaves(device.handle.thin)[1])


def test_a_pool_that_needs_a_check_stays_closed_until_its_mark_is_taken_away(scene: Scene) -> None:
    scene.metadata.need_check()
    assert WAY_OUT in scene.open()
    error = scene.node.closed["fast"]
    assert isinstance(error, NeedsRepairError)
    assert closed_condition(error).reason == "NeedsRepair"
    assert not [name for name in scene.active() if "pool" in name.partition(scene.pool_id)[2]]

    before = scene.metadata.digest()
    looked = scene.repair()
    assert looked.returncode == 0, looked.stderr
    assert "the metadata is sound" in looked.stdout
    assert "would be taken away" in looked.stdout
    assert scene.metadata.digest() == before
    assert scene.active() == []

    done = scene.repair("--yes")
    assert done.returncode == 0, done.stderr
    assert not scene.metadata.needs_check
    assert scene.open() == ""
    assert scene.present() == ALL
    assert scene.fast.guard.why == ""
    assert [name for name in scene.volumes() if name.startswith("old")] == []

    served = scene.repair("--yes")
    assert served.returncode == 2
    assert "another process serves this pool" in served.stderr
    scene.take_out()
    again = scene.repair("--yes")
    assert (again.returncode, "nothing is to be repaired" in again.stdout) == (0, True)


def test_of_damaged_mappings_all_else_is_there_and_what_is_lost_is_named(scene: Scene) -> None:
    damage_two(scene)
    lost, _ = scene.content["two"]
    before = scene.metadata.digest()
    assert WAY_OUT in scene.open()

    looked = scene.repair()
    assert looked.returncode == 1, looked.stderr
    assert f"lost: volume {lost.handle} (two)" in looked.stdout
    assert "nothing was changed" in looked.stdout
    assert scene.metadata.digest() == before

    done = scene.repair("--yes")
    assert done.returncode == 1, done.stderr
    assert f"lost: volume {lost.handle} (two)" in done.stdout
    assert f"kept in {scene.vg}/old-metadata-1" in done.stdout
    assert scene.kept() == before
    assert scene.active() == []

    assert scene.open() == ""
    assert scene.present() == {"one": True, "three": True, "cut": True}
    assert "devices that the pool does not have" in scene.fast.guard.why
    scene.node.check(rebuild=True)
    assert [each.handle for each in scene.fast.catalog.devices(state=State.LOST)] == [lost.handle]
    assert scene.node.create_volume(VolumeRequest("new", Bytes(8 * MIB), pool="fast")).size

    # And once more: what the first repair kept stays as it is.
    scene.find_metadata()
    scene.take_out()
    three, _ = scene.content["three"]
    scene.metadata.damage(scene.metadata.leaves(three.handle.thin)[0])
    again = scene.repair("--yes")
    assert again.returncode == 1, again.stderr
    assert f"kept in {scene.vg}/old-metadata-2" in again.stdout
    assert scene.kept() == before
    assert scene.open() == ""
    assert scene.present() == {"one": True, "cut": True}
    # As the guide says, and with the pool open.
    free = scene.fast.group.room
    scene.lvm("lvremove", "--yes", f"{scene.vg}/old-metadata-1")
    scene.fast.group.refresh()
    assert scene.fast.group.room.data > free.data
    assert scene.present() == {"one": True, "cut": True}


def test_of_a_damaged_space_map_nothing_is_lost(scene: Scene) -> None:
    scene.metadata.need_check()
    scene.metadata.damage(scene.metadata.data_bitmaps)
    before = scene.metadata.digest()
    assert WAY_OUT in scene.open()
    done = scene.repair("--yes")
    assert done.returncode == 0, done.stderr
    assert scene.kept() == before
    assert scene.open() == ""
    assert scene.present() == ALL
    assert scene.fast.guard.why == ""


def without_superblock(metadata: Metadata) -> None:
    metadata.damage(0)


def without_list_of_devices(metadata: Metadata) -> None:
    metadata.damage(metadata.details_root)


@pytest.mark.parametrize("damage", [without_superblock, without_list_of_devices])
def test_where_devices_cannot_be_read_one_by_one_only_a_thin_repair_that_leaves_out_nothing_is_used(
    scene: Scene, damage: Callable[[Metadata], None]
) -> None:
    damage(scene.metadata)
    before = scene.metadata.digest()
    assert WAY_OUT in scene.open()
    done = scene.repair("--yes")
    if thin_tools.repairs_in_full():
        assert done.returncode == 1, done.stderr
        assert "every volume is suspect" in done.stdout
        assert scene.kept() == before
        assert scene.open() == ""
        assert scene.present() == ALL
        # What may be older than the data is not changed before somebody has looked.
        assert "check --rebuild" in scene.fast.guard.way_out
    else:
        assert done.returncode == 2
        assert "thin-provisioning-tools 1.0 or later" in done.stderr
        assert scene.metadata.digest() == before
        assert WAY_OUT in scene.open()


def test_where_nothing_whole_is_left_nothing_is_changed(scene: Scene) -> None:
    scene.metadata.damage(*range(128))
    before = scene.metadata.digest()
    done = scene.repair("--yes")
    assert done.returncode == 2
    assert done.stderr.startswith("thinpool-csi: ")
    assert scene.metadata.digest() == before
    assert [name for name in scene.volumes() if name.startswith("old")] == []
    assert WAY_OUT in scene.open()


def test_a_repair_that_was_killed_anywhere_is_done_again(scene: Scene) -> None:
    damage_two(scene)
    before = scene.metadata.digest()
    for point in ("repair.after-open", "repair.after-dump", "repair.after-draft", "repair.after-restore"):
        died = scene.repair("--yes", point=point)
        assert died.returncode == -signal.SIGKILL, (point, died.stdout, died.stderr)
        assert scene.metadata.digest() == before
        assert WAY_OUT in scene.open()
    # What is about to be the old metadata is never removed: here it is a draft, and whole.
    assert scene.repair("--yes", point="repair.after-keep").returncode == -signal.SIGKILL
    assert scene.metadata.digest() == before
    assert scene.repair("--yes", point="repair.after-swap").returncode == -signal.SIGKILL
    assert scene.kept(2) == before
    again = scene.repair("--yes")
    assert (again.returncode, "nothing is to be repaired" in again.stdout) == (0, True)
    assert [name for name in scene.volumes() if name.startswith("old")] == ["old-metadata-1", "old-metadata-2"]
    assert scene.kept(2) == before
    assert scene.open() == ""
    assert scene.present() == {"one": True, "three": True, "cut": True}


def test_killed_when_the_mark_is_taken_away_the_pool_is_opened(scene: Scene) -> None:
    scene.metadata.need_check()
    assert scene.repair("--yes", point="repair.after-clear").returncode == -signal.SIGKILL
    assert scene.open() == ""
    assert scene.present() == ALL


def test_without_room_the_spare_is_taken_and_without_a_spare_a_new_disk(scene: Scene, spare_disk: str) -> None:
    damage_two(scene)
    before = scene.metadata.digest()
    blank = ("--yes", "--activate", "n", "--zero", "n", "--wipesignatures", "n")
    scene.lvm("lvcreate", *blank, "--name", "filler", "--extents", "100%FREE", scene.vg)
    assert scene.repair("--yes", point="repair.after-spare").returncode == -signal.SIGKILL
    assert not [name for name in scene.volumes() if "spare" in name]
    scene.lvm("lvextend", "--extents", "+100%FREE", f"{scene.vg}/filler")
    refused = scene.repair("--yes")
    assert refused.returncode == 2
    assert "name one more disk in the pool's devices" in refused.stderr
    assert scene.metadata.digest() == before
    assert WAY_OUT in scene.open()

    scene.disks["fast"].append(spare_disk)
    done = scene.repair("--yes")
    assert done.returncode == 1, done.stderr
    assert scene.kept() == before
    scene.node.wanted.want(scene.specs, {})
    assert scene.open() == ""
    assert scene.present() == {"one": True, "three": True, "cut": True}


def test_a_pool_that_failed_in_use_is_closed_at_the_next_start_and_repaired(scene: Scene) -> None:
    assert scene.open() == ""
    fail_writes(scene.fast.thin.table.metadata)
    with pytest.raises(DriverError):
        scene.node.create_volume(VolumeRequest("new", Bytes(8 * MIB), pool="fast"))
    assert pool_conditions(scene.fast)[0].reason == "NeedsRepair"
    refused = scene.repair("--yes")
    assert refused.returncode == 2
    assert "another process serves this pool" in refused.stderr
    scene.restart()
    assert WAY_OUT in scene.open()
    done = scene.repair("--yes")
    assert done.returncode == 0, done.stderr
    assert scene.active() == []
    assert scene.open() == ""
    assert scene.present() == ALL


def test_a_pool_that_failed_in_use_and_is_damaged_besides_is_taken_out_and_repaired(scene: Scene) -> None:
    assert scene.open() == ""
    fail_writes(scene.fast.thin.table.metadata)
    with pytest.raises(DriverError):
        scene.node.create_volume(VolumeRequest("new", Bytes(8 * MIB), pool="fast"))
    damage_two(scene)
    scene.restart()
    assert WAY_OUT in scene.open()
    done = scene.repair("--yes")
    assert done.returncode == 1, done.stderr
    assert "lost: volume" in done.stdout
    assert scene.active() == []
    assert scene.open() == ""
    assert scene.present() == {"one": True, "three": True, "cut": True}


def test_a_pool_on_files_is_repaired_too(scene_on_files: Scene) -> None:
    scene = scene_on_files
    damage_two(scene)
    assert WAY_OUT in scene.open()
    done = scene.repair("--yes")
    assert done.returncode == 1, done.stderr
    assert "lost: volume" in done.stdout
    assert scene.open() == ""
    assert scene.present() == {"one": True, "three": True, "cut": True}


def test_a_pool_with_a_volume_in_use_is_left_alone(scene: Scene) -> None:
    assert scene.open() == ""
    one, digest = scene.content["one"]
    pool = scene.fast
    thin = pool.device(one.handle.thin)
    thin.activate(pool.number, one.size)
    scene.node.close()
    refused = scene.repair("--yes")
    assert refused.returncode == 2
    assert f"1 of its volumes are active ({thin.name})" in refused.stderr
    assert thin.name in scene.active()
    thin.deactivate()
    done = scene.repair("--yes")
    assert (done.returncode, "nothing is to be repaired" in done.stdout) == (0, True)
    assert scene.open() == ""
    assert scene.digest(one) == digest
