"""Mounting, binding, unmounting: mount(2) and umount2(2) on places below a Root, with no subprocess."""

import errno
import os
import time
from typing import Final

from csi.errors import DataLossError, DriverError, KernelError, NotFoundError, StateError, UnavailableError
from csi.fs import mountinfo, syscalls
from csi.fs.busy import DEVICE_PATIENCE, until_free
from csi.fs.mountinfo import Mount
from csi.fs.options import Options
from csi.fs.paths import Place, Root
from csi.model import FsType

UNMOUNT_PATIENCE: Final = 10.0
"""Seconds that a busy mount is given to become free."""

_STACK_LIMIT: Final = 16
_EFSCORRUPTED: Final = errno.EUCLEAN
_EFSBADCRC: Final = errno.EBADMSG

_XFS_TRIES: Final = 5
"""A crash soon after an xfs grew leaves a log that kernels such as 6.1 stop to replay where it comes to the new part,
with EUCLEAN. What was replayed until then, the new size too, is written, and the next mount replays further.
"""

_MOUNT_FLAGS: Final = {
    "ro": syscalls.MS_RDONLY,
    "nosuid": syscalls.MS_NOSUID,
    "nodev": syscalls.MS_NODEV,
    "noexec": syscalls.MS_NOEXEC,
    "noatime": syscalls.MS_NOATIME,
    "nodiratime": syscalls.MS_NODIRATIME,
    "relatime": syscalls.MS_RELATIME,
}


def mount(device: str, target: Place, fs_type: FsType, options: Options) -> Mount:
    """Mount the file system on ``device`` (a path such as ``/dev/dm-3``) on the directory ``target``.

    It waits as long as the kernel needs (replaying a journal on a full pool may last); nobody can interrupt that. A
    device in use is tried again for DEVICE_PATIENCE. What was mounted is looked at again: a btrfs whose UUID is that
    of another mounted one can be answered with the other one's content. Raise DataLossError when the kernel finds the
    file system damaged, UnavailableError when it lacks the file system, StateError when it stays in use or the
    options are not to be had, NotFoundError when the target was removed, KernelError else.
    """
    deadline = time.monotonic() + DEVICE_PATIENCE
    for left in reversed(range(_XFS_TRIES if fs_type is FsType.XFS else 1)):
        try:
            until_free(
                lambda: syscalls.mount(device, target.proc, fs_type.value, options.flags, options.data), deadline
            )
            break
        except OSError as error:
            if error.errno != _EFSCORRUPTED or not left:
                raise _mount_error(device, target.path, fs_type, error) from error
    try:
        made = target.mounted()
    except DriverError:
        _take_back(target)
        raise
    if made is not None and made.is_of(device):
        return made
    _take_back(target)
    raise StateError(
        "mount",
        device,
        f"the kernel has {made.source if made else 'nothing'} on {target.path} in its place",
        way_out="was the directory replaced meanwhile, or is another file system with its UUID mounted on this node?",
    )


def bind(source: Place | str, target: Place, options: Options | None = None, *, read_only: bool = False) -> Mount:
    """Bind ``source`` (a staged directory, or the path of a device node below /dev) on ``target``; return the mount.

    It gets the source's mount options and those of ``options`` that hold for one mount alone; what belongs to the
    file system (the SELinux label too) was applied when it was mounted. If the restriction fails, the bind is taken
    away again. A read-only bind of a device node does not make the device read-only: who opens a node asks the
    device, not the mount (fs/namei.c, ``may_open``). Raise NotFoundError if one of both was removed, StateError if
    it was unmounted, KernelError.
    """
    name = source.path if isinstance(source, Place) else source
    path = source.proc if isinstance(source, Place) else source
    try:
        syscalls.mount(path, target.proc, None, syscalls.MS_BIND)
    except OSError as error:
        raise _bind_error(name, target.path, error) from error
    try:
        return restrict(target, options, read_only=read_only)
    except DriverError:
        _take_back(target)
        raise


def restrict(target: Place, options: Options | None = None, *, read_only: bool = False) -> Mount:
    """Give the mount that covers ``target`` the further per-mount options; do nothing if it has them.

    This also finishes a bind that was cut short before it became read-only. Raise StateError if nothing is mounted
    there, KernelError if the kernel refuses.
    """
    wanted = (options.per_mount if options else 0) | (syscalls.MS_RDONLY if read_only else 0)
    # Held open: the name may lead elsewhere by the time of the remount.
    with target.covered() as (present, path):
        if present is None:
            raise StateError("restrict mount", target.path, "nothing is mounted there")
        has = 0
        for word in present.options:
            has |= _MOUNT_FLAGS.get(word, 0)
        if wanted & ~syscalls.MS_STRICTATIME & ~has == 0:
            return present
        atime = syscalls.MS_NOATIME | syscalls.MS_RELATIME | syscalls.MS_STRICTATIME
        if wanted & atime:
            has &= ~atime
        try:
            # A remount sets all flags of the mount anew, so those that it has are said again.
            syscalls.mount("none", path, None, syscalls.MS_REMOUNT | syscalls.MS_BIND | has | wanted)
        except OSError as error:
            number = error.errno or 0
            if number == errno.EINVAL:
                raise StateError("restrict mount", target.path, "it was unmounted meanwhile", errno=number) from error
            raise KernelError("restrict mount", target.path, "not remounted", errno=number) from error
    now = target.mounted()
    if now is None:
        raise StateError("restrict mount", target.path, "it was unmounted meanwhile")
    return now


def make_private(path: str) -> None:
    """Make the directory ``path`` a mount of its own whose mounts stay within this namespace; again does nothing.

    What is mounted below it later cannot be kept busy by a copy in another namespace (mount_namespaces(7)).
    Raise KernelError.
    """
    try:
        if not any(mount.mount_point == path for mount in mountinfo.mounts()):
            syscalls.mount(path, path, None, syscalls.MS_BIND)
        syscalls.mount("none", path, None, syscalls.MS_PRIVATE)
    except OSError as error:
        raise KernelError("make private", path, "mount refused", errno=error.errno or 0) from error


def unmount(root: Root, path: str, *, patience: float = UNMOUNT_PATIENCE, lazy: bool = False) -> bool:
    """Unmount all that is mounted at ``path``, one on the other; return whether there was anything.

    A mount in use is tried again for ``patience`` seconds, then StateError names it. ``lazy`` takes it out of the
    tree at once and lets it end when its last user goes: the device stays busy until then, so only where nothing
    else can be done. A path that does not exist counts as unmounted. Raise InvalidRequestError for a bad path.
    """
    deadline = time.monotonic() + patience
    flags = syscalls.UMOUNT_NOFOLLOW | (syscalls.MNT_DETACH if lazy else 0)
    for count in range(_STACK_LIMIT):
        if root.mounted(path) is None:
            return count > 0
        # A descriptor of the mount itself would keep it busy: only the parent is open meanwhile.
        with root.parent(path) as place:
            _unmount_one(place, path, flags, deadline, patience)
    raise StateError("unmount", path, f"still mounted after {_STACK_LIMIT} rounds", way_out="look at its mounts")


def _unmount_one(place: str, path: str, flags: int, deadline: float, patience: float) -> None:
    try:
        until_free(lambda: syscalls.umount(place, flags), deadline)
    except OSError as error:
        number = error.errno or 0
        if number in (errno.EINVAL, errno.ENOENT):
            return  # somebody else unmounted or removed it
        if number != errno.EBUSY:
            raise KernelError("unmount", path, "the kernel refuses", errno=number) from error
        raise StateError(
            "unmount",
            path,
            f"still in use after {patience:g} s",
            errno=number,
            way_out="end the processes that have files of it open, or unmount what is mounted below it",
        ) from error


def syncfs(place: Place) -> None:
    """Write out the file system that the directory or file ``place`` lies on. Raise KernelError, also for lost data."""
    try:
        fd = os.open(place.proc, os.O_RDONLY | os.O_CLOEXEC)
        try:
            syscalls.syncfs(fd)
        finally:
            os.close(fd)
    except OSError as error:
        raise KernelError("sync", place.path, "not all was written", errno=error.errno or 0) from error


def _take_back(target: Place) -> None:
    """Unmount what was just mounted on the object that ``target`` has open, whatever has its name now."""
    try:
        syscalls.umount(target.proc, 0)
    except OSError as error:
        if error.errno != errno.EINVAL:  # somebody else unmounted it
            raise KernelError("unmount", target.path, "a failed mount stays", errno=error.errno or 0) from error


def _bind_error(name: str, path: str, error: OSError) -> DriverError:
    """Tell what became of source or target since they were opened, if that is what the kernel minds."""
    number = error.errno or 0
    if number == errno.ENOENT:
        return NotFoundError("bind", name, f"it or {path} is gone", errno=number)
    if number == errno.EINVAL:
        return StateError(
            "bind", name, f"it or what {path} lies on was unmounted", errno=number, way_out="stage it again"
        )
    return KernelError("bind", name, f"not on {path}", errno=number)


def _mount_error(device: str, path: str, fs_type: FsType, error: OSError) -> Exception:
    number = error.errno or 0
    if number in (_EFSCORRUPTED, _EFSBADCRC):
        return DataLossError(
            "mount",
            device,
            f"its {fs_type} is damaged",
            errno=number,
            way_out="nothing was changed; look at the kernel's log and restore a snapshot, or repair it by hand",
        )
    if number == errno.ENOENT:
        return NotFoundError("mount", device, f"it or {path} is gone", errno=number)
    if number == errno.ENODEV:
        return UnavailableError(
            "mount", device, f"the kernel has no {fs_type}", errno=number, way_out=f"load the module {fs_type}"
        )
    why = f"not mounted as {fs_type} on {path}"
    if number == errno.EEXIST:
        why, way_out = f"another {fs_type} with its UUID is in use", "unmount that one first"
    elif number == errno.EBUSY:
        # Also a file system that is mounted elsewhere, and there with the other access mode.
        way_out = "the device is in use otherwise: unmount it there first"
    elif number == errno.EINVAL:
        # Which values and which combinations of options a kernel takes, only it knows.
        way_out = "a damaged superblock, a feature or an option this kernel does not take: the kernel's log says which"
    else:
        return KernelError("mount", device, why, errno=number, way_out="look at the kernel's log")
    return StateError("mount", device, why, errno=number, way_out=way_out)
