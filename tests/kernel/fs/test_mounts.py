"""Mounting, binding and unmounting on confined paths, on the running kernel."""

import os
import threading
import time
from pathlib import Path

import pytest

from csi.errors import BusyError, InvalidRequestError, KernelError, NotFoundError, StateError, UnavailableError
from csi.fs import mkfs, mountinfo, options, syscalls
from csi.fs import mount as mounting
from csi.fs.mount import bind, mount, restrict, syncfs, unmount
from csi.fs.options import Options
from csi.fs.paths import Root
from csi.fs.usage import usage
from csi.model import FsType
from csi.units import MIB, Bytes
from tests.kernel.conftest import MakeDisk, run

SIZE = Bytes(64 * MIB)


@pytest.fixture
def device(make_disk: MakeDisk) -> str:
    """Make a loop device with an ext4."""
    path = make_disk(SIZE)
    mkfs.make(path, FsType.EXT4)
    return path


@pytest.fixture
def staged(root: Root, device: str) -> str:
    """Mount the device on the directory a of the root, and return the directory."""
    with root.directory(f"{root.path}/a") as place:
        mount(device, place, FsType.EXT4, Options.parse(FsType.EXT4, []))
    Path(root.path, "a", "file").write_text("kept")
    return f"{root.path}/a"


def node(device: str) -> tuple[int, int]:
    number = os.stat(device).st_rdev
    return os.major(number), os.minor(number)


def test_a_mount_is_seen_and_is_gone_after_unmount(root: Root, staged: str, device: str) -> None:
    found = root.mounted(staged)
    assert found is not None
    assert (found.fs_type, found.mount_point, found.root) == ("ext4", staged, "/")
    assert [each.mount_point for each in mountinfo.of_device(device)] == [staged]
    assert unmount(root, staged)
    assert root.mounted(staged) is None
    assert mountinfo.of_device(device) == []


def test_unmounting_what_is_not_mounted_or_not_there_is_nothing(root: Root) -> None:
    assert not unmount(root, f"{root.path}/a")
    assert not unmount(root, f"{root.path}/missing")
    assert not unmount(root, f"{root.path}/missing/deeper")


def test_options_reach_the_mount_and_the_file_system(root: Root, device: str) -> None:
    wanted = Options.parse(FsType.EXT4, ["noatime,nodev", "nosuid,noexec", "commit=30", 'context="a:b:c:s0:c1,c2"'])
    with root.directory(f"{root.path}/a") as place:
        found = mount(device, place, FsType.EXT4, wanted)
    assert {"rw", "noatime", "nodev", "nosuid", "noexec"} <= set(found.options)
    assert "commit=30" in found.super_options


def test_a_label_and_options_of_the_file_system_are_dropped_at_the_bind(root: Root, staged: str) -> None:
    wanted = Options(syscalls.MS_NOATIME, 'context="system_u:object_r:container_file_t:s0:c1,c2",commit=30')
    with root.directory(staged) as source, root.directory(f"{root.path}/b") as target:
        found = bind(source, target, wanted)
    assert "noatime" in found.options
    assert "commit=30" not in found.super_options


@pytest.mark.parametrize("fs_type", FsType)
def test_every_option_on_the_list_is_one_the_kernel_knows(root: Root, make_disk: MakeDisk, fs_type: FsType) -> None:
    values = {"commit": "5", "data": "ordered", "errors": "continue", "inode_readahead_blks": "32", "stripe": "16"}
    values |= {"max_batch_time": "15000", "min_batch_time": "0", "allocsize": "64k", "logbsize": "64k", "logbufs": "4"}
    values |= {"compress": "zstd:3", "compress-force": "lzo", "discard": "async", "max_inline": "2048"}
    values |= {"space_cache": "v2", "thread_pool": "2"}
    device = make_disk(Bytes(320 * MIB))
    mkfs.make(device, fs_type)
    refused = []
    for word, pattern in options._DATA[fs_type].items():
        option = word if pattern is None else f"{word}={values[word]}"
        try:
            with root.directory(f"{root.path}/a") as place:
                mount(device, place, fs_type, Options.parse(fs_type, [option]))
        except KernelError:
            refused.append(option)
        unmount(root, f"{root.path}/a")
    assert refused == []


def test_the_kernel_takes_a_quoted_label_as_one_option(
    root: Root, device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(options, "_has_selinux", lambda: True)
    before = run("dmesg")
    label = Options.parse(FsType.EXT4, ['context="system_u:object_r:container_file_t:s0:c1,c2"'])
    # No policy is loaded, so that the label itself is refused; a split one would be an unknown parameter c2.
    with root.directory(f"{root.path}/a") as place, pytest.raises(StateError, match="EINVAL"):
        mount(device, place, FsType.EXT4, label)
    said = run("dmesg").removeprefix(before)
    assert "SELinux" in said
    assert "Unknown parameter" not in said


def test_a_bind_shows_the_staged_files_and_keeps_its_options(root: Root, device: str) -> None:
    with root.directory(f"{root.path}/a") as place:
        mount(device, place, FsType.EXT4, Options.parse(FsType.EXT4, ["nodev,noatime"]))
    Path(root.path, "a", "file").write_text("kept")
    with root.directory(f"{root.path}/a") as source, root.directory(f"{root.path}/b") as target:
        found = bind(source, target, Options.parse(FsType.EXT4, ["nosuid"]))
        assert {"rw", "nodev", "noatime", "nosuid"} <= set(found.options)
        assert found.is_of(device)
    assert Path(root.path, "b", "file").read_text() == "kept"


def test_a_read_only_bind_leaves_its_source_writable(root: Root, staged: str) -> None:
    with root.directory(staged) as source, root.directory(f"{root.path}/b") as target:
        assert bind(source, target, read_only=True).read_only
    with pytest.raises(OSError, match="Read-only"):
        Path(root.path, "b", "file").write_text("lost")
    Path(staged, "file").write_text("changed")
    assert Path(root.path, "b", "file").read_text() == "changed"


def test_a_bind_cut_short_before_it_was_read_only_is_finished(root: Root, staged: str) -> None:
    with root.directory(staged) as source, root.directory(f"{root.path}/b") as target:
        bind(source, target)
    with root.directory(f"{root.path}/b") as target:
        assert restrict(target, read_only=True).read_only
        assert restrict(target, read_only=True).read_only
    found = root.mounted(f"{root.path}/b")
    assert found is not None
    assert found.read_only


def test_restricting_what_is_not_mounted_is_refused(root: Root) -> None:
    with root.directory(f"{root.path}/a") as place, pytest.raises(StateError, match="nothing is mounted"):
        restrict(place, read_only=True)


def test_a_bind_that_cannot_be_restricted_is_taken_away(
    root: Root, staged: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise KernelError("restrict mount", "x", "no")

    monkeypatch.setattr(mounting, "restrict", refuse)
    with root.directory(staged) as source, root.directory(f"{root.path}/b") as target, pytest.raises(KernelError):
        bind(source, target, read_only=True)
    assert root.mounted(f"{root.path}/b") is None


def test_a_device_node_is_bound_on_a_file(root: Root, device: str) -> None:
    path = f"{root.path}/block"
    with root.file(path, create=True) as target:
        bind(device, target)
    with root.file(path) as published:
        assert published.device() == node(device)
    with open(path, "rb") as file:
        assert file.seek(0, os.SEEK_END) == SIZE
    assert [each.mount_point for each in mountinfo.of_node(device)] == [path]
    with pytest.raises(StateError, match="mounted on it"):
        root.remove(path)
    assert unmount(root, path)
    root.remove(path)
    assert not os.path.exists(path)
    assert os.path.exists(device)


def test_a_read_only_bind_of_a_device_node_says_so_but_the_device_stays_writable(root: Root, device: str) -> None:
    with root.file(f"{root.path}/block", create=True) as target:
        assert bind(device, target, read_only=True).read_only
    os.close(os.open(f"{root.path}/block", os.O_RDWR))


def test_a_busy_mount_is_named_after_a_bounded_time(root: Root, staged: str) -> None:
    began = time.monotonic()
    with open(f"{staged}/file"), pytest.raises(StateError, match=f"{staged}: still in use after 0.5 s.*EBUSY"):
        unmount(root, staged, patience=0.5)
    assert 0.5 <= time.monotonic() - began < 30
    assert unmount(root, staged)


def test_a_mount_that_becomes_free_in_time_is_unmounted(root: Root, staged: str) -> None:
    file = open(f"{staged}/file")  # noqa: SIM115 - closed by the timer
    timer = threading.Timer(0.5, file.close)
    timer.start()
    assert unmount(root, staged, patience=10)
    timer.join()


def test_a_lazy_unmount_does_not_wait(root: Root, staged: str) -> None:
    with open(f"{staged}/file") as file:
        assert unmount(root, staged, patience=0, lazy=True)
        assert root.mounted(staged) is None
        assert file.read() == "kept"


def test_mounts_on_top_of_each_other_all_go(root: Root, staged: str, device: str) -> None:
    for _ in range(3):
        with root.directory(staged) as place:
            bind(place, place)
    assert len(mountinfo.of_device(device)) == 4
    assert unmount(root, staged)
    assert mountinfo.of_device(device) == []


def test_a_name_replaced_by_a_link_redirects_no_mount(root: Root, device: str, tmp_path: Path) -> None:
    with root.directory(f"{root.path}/a") as place:
        os.rename(f"{root.path}/a", f"{root.path}/old")
        os.symlink(tmp_path / "outside", f"{root.path}/a")
        with pytest.raises(StateError):
            mount(device, place, FsType.EXT4, Options())
    assert mountinfo.of_device(device) == []


def test_a_name_replaced_by_a_link_redirects_no_unmount(root: Root, staged: str, device: str, tmp_path: Path) -> None:
    outside = Root(str(tmp_path))
    with outside.directory(f"{tmp_path}/outside") as place, root.directory(staged) as source:
        bind(source, place)
    os.symlink(tmp_path / "outside", f"{root.path}/link")
    with pytest.raises(InvalidRequestError):
        unmount(root, f"{root.path}/link")
    with root.parent(f"{root.path}/link") as path, pytest.raises(OSError, match="Invalid"):
        syscalls.umount(path, syscalls.UMOUNT_NOFOLLOW)
    assert len(mountinfo.of_device(device)) == 2


def test_a_file_system_that_shut_itself_down_can_be_looked_at_and_unmounted(root: Root, make_disk: MakeDisk) -> None:
    device = make_disk(Bytes(320 * MIB))
    mkfs.make(device, FsType.XFS)
    with root.directory(f"{root.path}/a") as place:
        mount(device, place, FsType.XFS, Options.parse(FsType.XFS, []))
    run("xfs_io", "-x", "-c", "shutdown", f"{root.path}/a")
    with pytest.raises(OSError, match="Input/output"):
        os.stat(f"{root.path}/a")
    assert root.mounted(f"{root.path}/a") is not None
    assert unmount(root, f"{root.path}/a")


def test_what_is_not_a_file_system_is_an_error_that_names_it(root: Root, make_disk: MakeDisk) -> None:
    device = make_disk(SIZE)
    with root.directory(f"{root.path}/a") as place, pytest.raises(StateError, match=f"mount {device}.*EINVAL"):
        mount(device, place, FsType.EXT4, Options())


def test_a_value_that_the_kernel_does_not_take_says_where_to_look(root: Root, device: str) -> None:
    wanted = Options.parse(FsType.EXT4, ["inode_readahead_blks=3"])
    with root.directory(f"{root.path}/a") as place, pytest.raises(StateError, match="option this kernel does not take"):
        mount(device, place, FsType.EXT4, wanted)


def test_a_file_system_that_is_writable_elsewhere_is_not_mounted_read_only(
    root: Root, staged: str, device: str
) -> None:
    assert staged
    with root.directory(f"{root.path}/b") as place, pytest.raises(StateError, match="unmount it there first"):
        mount(device, place, FsType.EXT4, Options.parse(FsType.EXT4, ["ro"]))


def test_an_xfs_that_grew_again_and_again_before_a_crash_is_mounted(root: Root, make_disk: MakeDisk) -> None:
    device = make_disk(Bytes(512 * MIB))
    run("mkfs.xfs", "-q", "-d", "size=320m", device)
    with root.directory(f"{root.path}/a") as place:
        mount(device, place, FsType.XFS, Options())
    Path(root.path, "a", "file").write_text("kept")
    os.sync()
    for size in range(352, 513, 32):
        run("xfs_growfs", "-D", str(size * MIB // 4096), f"{root.path}/a")
        Path(root.path, "a", f"at {size}").write_bytes(bytes(MIB))
    # The log as a power cut right now would leave it.
    run("xfs_io", "-x", "-c", "shutdown -f", f"{root.path}/a")
    unmount(root, f"{root.path}/a")
    with root.directory(f"{root.path}/a") as place:
        mount(device, place, FsType.XFS, Options())
        assert usage(place).total > 400 * MIB
    assert Path(root.path, "a", "file").read_text() == "kept"


def test_a_name_replaced_by_a_link_redirects_no_restriction(
    root: Root, staged: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    outside = Root(str(tmp_path))
    real = syscalls.mount
    with outside.directory(f"{tmp_path}/outside") as place, root.directory(staged) as source:
        bind(source, place)

    def swapped(*args: object) -> None:
        syscalls.umount(f"{root.path}/b", syscalls.MNT_DETACH)
        os.rmdir(f"{root.path}/b")
        os.symlink(tmp_path / "outside", f"{root.path}/b")
        real(*args)  # type: ignore[arg-type]

    with root.directory(staged) as source, root.directory(f"{root.path}/b") as target:
        bind(source, target)
        monkeypatch.setattr(syscalls, "mount", swapped)
        with pytest.raises((KernelError, StateError)):
            restrict(target, read_only=True)
    found = outside.mounted(f"{tmp_path}/outside")
    assert found is not None
    assert not found.read_only


def test_a_mount_that_goes_while_it_is_looked_at_is_a_matter_of_asking_again(
    root: Root, staged: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = mountinfo.mounts

    def gone() -> tuple[mountinfo.Mount, ...]:
        syscalls.umount(staged, syscalls.MNT_DETACH)
        return real()

    monkeypatch.setattr(mountinfo, "mounts", gone)
    with pytest.raises(BusyError, match="unmounted just now"):
        root.mounted(staged)


def test_a_target_removed_before_the_mount_is_not_found(root: Root, staged: str, device: str) -> None:
    with root.directory(staged) as source, root.directory(f"{root.path}/b") as target:
        os.rmdir(f"{root.path}/b")
        with pytest.raises(NotFoundError, match="is gone"):
            bind(source, target)
        with pytest.raises(NotFoundError, match="is gone"):
            mount(device, target, FsType.EXT4, Options())


def test_what_was_unmounted_before_the_bind_is_not_bound(root: Root, staged: str) -> None:
    with root.directory(staged) as source, root.directory(f"{root.path}/b") as target:
        syscalls.umount(staged, syscalls.MNT_DETACH)
        with pytest.raises(StateError, match="was unmounted"):
            bind(source, target)


def test_a_missing_file_system_type_says_which_module(root: Root, device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    real = syscalls.mount
    monkeypatch.setattr(syscalls, "mount", lambda *args: real(args[0], args[1], "nosuchfs", args[3], args[4]))
    with root.directory(f"{root.path}/a") as place, pytest.raises(UnavailableError, match="load the module ext4"):
        mount(device, place, FsType.EXT4, Options())


def test_usage_counts_bytes_and_inodes(root: Root, staged: str) -> None:
    with root.directory(staged) as place:
        before = usage(place)
        assert 0.5 * SIZE < before.total <= SIZE
        assert before.inodes == before.inodes_used + before.inodes_free
        Path(staged, "more").write_bytes(bytes(4 * MIB))
        syncfs(place)
        after = usage(place)
    assert after.used - before.used >= 4 * MIB
    assert before.available - after.available >= 4 * MIB
    assert after.inodes_used == before.inodes_used + 1
