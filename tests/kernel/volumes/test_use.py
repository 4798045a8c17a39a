"""Volumes in use: targets, raw block, single writers, inline volumes, and devices that are there only meanwhile."""

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from csi.dm.ioctl import Control
from csi.errors import InvalidRequestError, NotFoundError, StateError
from csi.fs import mountinfo
from csi.model import Device, Handle, ThinId
from csi.units import KIB, MIB, Bytes
from csi.volumes.requests import Access, VolumeRequest
from tests.kernel.conftest import run
from tests.kernel.volumes.served import SIZE, Served

if TYPE_CHECKING:
    from collections.abc import Callable

_INLINE = "csi-" + "5a" * 32


def test_a_device_is_active_from_stage_to_unstage_and_a_snapshot_never(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[str] = []
    create = Control.create

    def recorded(self: Control, name: str, uuid: str = "") -> object:
        made.append(name)
        return create(self, name, uuid)

    monkeypatch.setattr(Control, "create", recorded)
    volume = served.create("v")
    assert not served.active(volume.handle)
    served.node.create_snapshot("of a volume at rest", volume.handle)
    served.staged(volume)
    assert served.active(volume.handle)
    snapshot = served.node.create_snapshot("of a volume in use", volume.handle)
    group = served.node.create_group("g", [volume.handle])
    copies = [served.copy("c", volume.handle), served.copy("r", snapshot.handle)]
    served.node.expand_volume(volume.handle, Bytes(2 * SIZE), Bytes(0))
    assert not any(served.active(copy.handle) for copy in copies)
    served.unstage(volume)
    assert not served.active(volume.handle)
    assert made == [volume.handle.device]
    assert served.node.check().findings == ()
    assert [served.active(each.handle) for each in (*served.node.snapshots(), *group.members)] == [False] * 4


@pytest.mark.parametrize("block", [False, True])
def test_a_deletion_waits_a_little_for_what_is_about_to_be_unstaged(served: Served, *, block: bool) -> None:
    """The kubelet unstages a volume when its claim, which nobody uses any more, is gone already."""
    volume = served.create("v", block=block)
    if block:
        place, target = served.path("staged"), served.path("t")
        served.node.stage(volume.handle, place, Access(block=True))
        served.node.publish(volume.handle, place, target, Access(block=True), readonly=False)
    else:
        place, target = served.staged(volume), ""
    with ThreadPoolExecutor(1) as executor:
        deletion = executor.submit(served.node.delete_volume, volume.handle)
        with pytest.raises(TimeoutError):
            deletion.result(0.5)
        if target:
            served.node.unpublish(str(volume.handle), target)
        served.node.unstage(volume.handle, place)
        deletion.result(10)
    assert served.node.volumes() == []


def test_unstage_refuses_while_a_target_is_left_and_each_step_may_be_repeated(served: Served) -> None:
    volume = served.create("v")
    place, target = served.staged(volume), served.path("t")
    assert served.staged(volume) == place
    for _ in range(2):
        served.node.publish(volume.handle, place, target, Access(), readonly=False)
    Path(target, "file").write_text("x")
    with pytest.raises(StateError, match=f"still published at {target}"):
        served.node.unstage(volume.handle, place)
    with pytest.raises(StateError, match="in use"):
        served.node.delete_volume(volume.handle)
    assert served.node.published(volume.handle)
    for _ in range(2):
        served.node.unpublish(str(volume.handle), target)
        assert not os.path.exists(target)
    for _ in range(2):
        served.node.unstage(volume.handle, place)
    assert not served.node.published(volume.handle)
    for _ in range(2):
        served.node.delete_volume(volume.handle)


def test_a_single_writer_has_one_target(served: Served) -> None:
    volume = served.create("v")
    place = served.staged(volume)
    alone = Access(single_writer=True)
    served.node.publish(volume.handle, place, served.path("one"), alone, readonly=False)
    served.node.publish(volume.handle, place, served.path("one"), alone, readonly=False)
    with pytest.raises(StateError, match="for a single writer"):
        served.node.publish(volume.handle, place, served.path("two"), alone, readonly=False)
    assert not os.path.exists(served.path("two"))
    served.node.unpublish(str(volume.handle), served.path("one"))
    served.node.publish(volume.handle, place, served.path("two"), alone, readonly=False)


def test_several_writers_share_one_file_system(served: Served) -> None:
    volume = served.create("v")
    place = served.staged(volume)
    for name in ("one", "two"):
        served.node.publish(volume.handle, place, served.path(name), Access(), readonly=False)
    Path(served.path("one"), "file").write_text("shared")
    assert Path(served.path("two"), "file").read_text() == "shared"


def test_a_raw_block_volume_is_published_as_a_node_and_keeps_what_is_written(served: Served) -> None:
    volume = served.create("raw", 8 * MIB, block=True)
    for _ in range(2):
        target = served.staged(volume)
    number = os.stat(target).st_rdev
    info = served.pool.device(volume.handle.thin).info()
    assert info is not None
    assert (os.major(number), os.minor(number)) == (info.major, info.minor)
    with open(target, "r+b", buffering=0) as device:
        assert device.seek(0, os.SEEK_END) == 8 * MIB
        device.seek(4 * MIB)
        device.write(b"x" * KIB)
        os.fsync(device.fileno())
    usage = served.node.usage(volume.handle, target)
    assert (usage.total, usage.used, usage.available) == (8 * MIB, 64 * KIB, 8 * MIB - 64 * KIB)
    grown = served.node.expand_volume(volume.handle, Bytes(16 * MIB), Bytes(0))
    assert served.node.expand_fs(volume.handle, target) == grown.size
    with open(target, "rb") as device:
        assert device.seek(0, os.SEEK_END) == 16 * MIB
    for _ in range(2):
        served.unstage(volume)
        assert not os.path.exists(target)
    with open(served.staged(volume), "rb") as device:
        device.seek(4 * MIB)
        assert device.read(KIB) == b"x" * KIB


def test_usage_tells_bytes_and_inodes_where_the_volume_is_and_nothing_elsewhere(served: Served) -> None:
    volume = served.create("v")
    place = served.staged(volume)
    before = served.node.usage(volume.handle, place)
    assert 0.7 * SIZE < before.total <= SIZE
    Path(place, "file").write_bytes(bytes(4 * MIB))
    run("sync", "--file-system", place)
    after = served.node.usage(volume.handle, place)
    assert after.used - before.used == 4 * MIB
    assert after.available == before.available - 4 * MIB
    assert (after.inodes, after.inodes_used) == (before.inodes, before.inodes_used + 1)
    for elsewhere in (served.path(""), served.path("gone"), "/", "relative", "/etc"):
        with pytest.raises(NotFoundError):
            served.node.usage(volume.handle, elsewhere)


def test_nothing_outside_the_kubelets_directory_is_touched(served: Served, tmp_path: Path) -> None:
    volume = served.create("v")
    place = served.staged(volume)
    outside = tmp_path / "outside"
    outside.mkdir()
    outside.joinpath("empty").touch()
    os.symlink(outside, served.path("link"))
    os.symlink(outside / "new", served.path("dangling"))
    before = (mountinfo.mounts(), sorted(tmp_path.rglob("*")))
    hostile = (
        served.path("link"),
        served.path("link/inside"),
        served.path("link/empty"),
        served.path("dangling"),
        served.path("../outside"),
        served.path(f"{place}/../../outside"),
        served.path("a/../../../../../etc"),
        f"{outside}",
        "/etc",
        "relative",
        "",
        served.path("nul\0"),
        served.path("x" * 300),
        served.path("x/" * 3000),
    )
    for path in hostile:
        _assert_refused_everywhere(served, volume, path, place)
    assert (mountinfo.mounts(), sorted(tmp_path.rglob("*"))) == before
    served.reclaimed()
    assert [device.handle for device in served.devices()] == [volume.handle]


def _assert_refused_everywhere(served: Served, volume: Device, path: str, place: str) -> None:
    """See that no request takes ``path``."""
    node, handle, inline = served.node, volume.handle, VolumeRequest("", SIZE)
    requests: tuple[Callable[[], object], ...] = (
        lambda: node.publish(handle, place, path, Access(), readonly=False),
        lambda: node.publish(handle, path, served.path("t"), Access(), readonly=False),
        lambda: node.stage(handle, path, Access()),
        lambda: node.unpublish(str(handle), path),
        lambda: node.unstage(handle, path),
        lambda: node.publish_ephemeral(_INLINE, path, inline, Access(), readonly=False),
    )
    for request in requests:
        with pytest.raises(InvalidRequestError):
            request()


def test_an_inline_volume_lives_as_long_as_its_target(served: Served) -> None:
    target = served.path("inline")
    wanted = VolumeRequest("", SIZE)
    for _ in range(2):
        served.node.publish_ephemeral(_INLINE, target, wanted, Access(), readonly=False)
    device = served.node.inline(_INLINE)
    assert served.active(device.handle)
    assert device.ephemeral
    Path(target, "file").write_text("x")
    assert served.node.usage(device.handle, target).total > SIZE // 2
    assert served.node.volumes() == []
    with pytest.raises(StateError, match=f"published at {target} already"):
        served.node.publish_ephemeral(_INLINE, served.path("elsewhere"), wanted, Access(), readonly=False)
    for _ in range(2):
        served.node.unpublish(_INLINE, target)
        assert not os.path.exists(target)
    assert not served.active(device.handle)
    served.reclaimed()
    assert served.devices() == []


def test_an_inline_volume_that_is_elsewhere_too_stays_where_it_is(served: Served) -> None:
    target = served.path("inline")
    served.node.publish_ephemeral(_INLINE, target, VolumeRequest("", SIZE), Access(), readonly=False)
    staged = served.staged(served.node.inline(_INLINE))
    with pytest.raises(StateError, match=f"also at {staged}"):
        served.node.unpublish(_INLINE, target)
    Path(target, "file").write_text("x")
    run("umount", staged)
    served.node.unpublish(_INLINE, target)
    assert not os.path.exists(target)


def test_an_inline_volume_that_cannot_be_mounted_leaves_nothing_behind(served: Served) -> None:
    wanted = VolumeRequest("", SIZE)
    with pytest.raises(InvalidRequestError, match="not an option"):
        served.node.publish_ephemeral(
            _INLINE, served.path("t"), wanted, Access(mount_flags=("errors=panic",)), readonly=False
        )
    served.node.unpublish(_INLINE, served.path("t"))
    served.reclaimed()
    assert served.devices() == []
    with pytest.raises(NotFoundError):
        served.node.inline(_INLINE)


@pytest.mark.parametrize("volume_id", ["", "csi-", "../../etc", "csi-" + "g" * 64, "x" * 5000, _INLINE + "0"])
def test_what_is_no_inline_volumes_id_is_refused(served: Served, volume_id: str) -> None:
    with pytest.raises(InvalidRequestError, match="not the id"):
        served.node.publish_ephemeral(volume_id, served.path("t"), VolumeRequest("", SIZE), Access(), readonly=False)
    with pytest.raises(NotFoundError):
        served.node.unpublish(volume_id, served.path("t"))
    assert served.devices() == []


def test_a_handle_of_this_pool_that_was_never_given_out_is_not_found(served: Served) -> None:
    known = served.create("v").handle
    gone = Handle(known.pool, ThinId(known.thin + 5000))
    for request in (
        lambda: served.node.volume(gone),
        lambda: served.node.stage(gone, served.path("s"), Access()),
        lambda: served.node.publish(gone, served.path("s"), served.path("t"), Access(), readonly=False),
        lambda: served.node.expand_volume(gone, SIZE, Bytes(0)),
        lambda: served.node.create_snapshot("s", gone),
        lambda: served.copy("c", gone),
    ):
        with pytest.raises(NotFoundError, match=str(gone)):
            request()
    served.node.delete_volume(gone)
    served.node.delete_snapshot(gone)
    # A snapshot's handle is no volume's.
    snapshot = served.node.create_snapshot("s", known)
    served.node.delete_volume(snapshot.handle)
    assert served.node.snapshots() == [snapshot]
    with pytest.raises(NotFoundError):
        served.node.stage(snapshot.handle, served.path("s"), Access())
