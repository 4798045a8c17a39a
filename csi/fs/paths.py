"""Target paths, confined to one directory and opened without following a symbolic link.

A path from a request is text from outside. It is taken apart, and every component below the root is opened in its
turn relative to the one before (openat(2) with ``O_PATH | O_NOFOLLOW``). What comes out is a pair of descriptors, and
mounts are made on ``/proc/self/fd/N``: a component that is replaced afterwards cannot redirect anything.
"""

import errno
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Final

from csi.errors import BusyError, DriverError, InvalidRequestError, KernelError, NotFoundError, StateError
from csi.fs import mountinfo
from csi.fs.mountinfo import Mount

PATH_LIMIT: Final = 4095
"""PATH_MAX of include/uapi/linux/limits.h, less the terminating NUL."""

_NAME_LIMIT: Final = 255
_DIRECTORY: Final = os.O_PATH | os.O_NOFOLLOW | os.O_DIRECTORY | os.O_CLOEXEC
_ANYTHING: Final = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC


@dataclass(frozen=True)
class Place:
    """A directory or file below the root, held open; valid inside the ``with`` that made it.

    ``fd`` is an O_PATH descriptor of what was there when it was opened: the root of a mount, if one was on it.
    """

    path: str
    """As it was asked for; for messages and logs."""
    parent_fd: int
    name: str
    fd: int

    @property
    def proc(self) -> str:
        """A path to exactly this object, whatever happens to its name (proc_pid_fd(5)); for this process alone."""
        return f"/proc/self/fd/{self.fd}"

    def mounted(self) -> Mount | None:
        """Return the mount that covers this name now (the topmost one), or None."""
        with self.covered() as (mount, _):
            return mount

    @contextmanager
    def covered(self) -> Iterator[tuple[Mount | None, str]]:
        """Hold open what has this name now; yield the mount that covers it, if any, and a path to exactly that.

        Raise BusyError if it is unmounted meanwhile, and as ``Root.directory`` does.
        """
        try:
            fd = os.open(self.name, _ANYTHING, dir_fd=self.parent_fd)
        except OSError as error:
            raise _open_error("look at", self.path, error) from error
        try:
            yield self._mount_of(fd), f"/proc/self/fd/{fd}"
        finally:
            os.close(fd)

    def _mount_of(self, fd: int) -> Mount | None:
        here = _mount_id(fd)
        if here == _mount_id(self.parent_fd):
            return None
        for mount in mountinfo.mounts():
            if mount.id == here:
                return mount
        why = f"its mount {here} is not among the mounts of this namespace: it was unmounted just now"
        raise BusyError("look at", self.path, why, way_out="send it again later")

    def device(self) -> tuple[int, int] | None:
        """Return the number of the block device whose node this is; None for anything else."""
        status = _status(self.fd, self.path)
        return (os.major(status.st_rdev), os.minor(status.st_rdev)) if stat.S_ISBLK(status.st_mode) else None


class Root:
    """The directory that all targets lie in (the kubelet's).

    It may itself be reached through symbolic links, for it is the administrator's; below it none is followed.
    """

    def __init__(self, path: str) -> None:
        """Take an absolute ``path``; nothing is opened yet. Raise InvalidRequestError if it is not absolute."""
        if not path.startswith("/") or "\0" in path:
            raise InvalidRequestError("confine targets to", path, "not an absolute path")
        self.path = os.path.normpath(path)
        self._parts = [part for part in self.path.split("/") if part]

    def contains(self, path: str) -> bool:
        """Tell whether ``path`` is well formed and lies below the root, by its text alone."""
        try:
            self.split(path)
        except InvalidRequestError:
            return False
        return True

    def split(self, path: str) -> list[str]:
        """Return the components of ``path`` below the root, at least one.

        Raise InvalidRequestError if it is empty, relative, too long, contains NUL or ``..``, or lies elsewhere.
        """
        why = _malformed(path)
        if why:
            raise InvalidRequestError("use path", _shown(path), why)
        parts = [part for part in path.split("/") if part not in ("", ".")]
        below = parts[len(self._parts) :]
        if parts[: len(self._parts)] != self._parts or not below:
            raise InvalidRequestError("use path", _shown(path), f"it does not lie below {self.path}")
        return below

    @contextmanager
    def directory(self, path: str, *, create: bool = False) -> Iterator[Place]:
        """Open the directory at ``path``; with ``create`` its last component is made if missing (mode 0750).

        Raise InvalidRequestError for a path that is malformed, outside, leads over a symbolic link or names something
        else; NotFoundError if it, or a directory above it, is missing.
        """
        with ExitStack() as stack:
            parent, name = self._parent(stack, path)
            if create:
                _make(path, lambda: os.mkdir(name, 0o750, dir_fd=parent))
            yield Place(path, parent, name, _enter(stack, path, name, parent, _DIRECTORY))

    @contextmanager
    def file(self, path: str, *, create: bool = False) -> Iterator[Place]:
        """Open the file or block device node at ``path``; with ``create`` an empty file is made if nothing is there.

        It is what a raw block volume's device node is bound on. Raise as ``directory`` does.
        """
        with ExitStack() as stack:
            parent, name = self._parent(stack, path)
            if create:
                flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC
                _make(path, lambda: os.close(os.open(name, flags, 0o640, dir_fd=parent)))
            fd = _enter(stack, path, name, parent, _ANYTHING)
            mode = _status(fd, path).st_mode
            if not (stat.S_ISREG(mode) or stat.S_ISBLK(mode)):
                raise InvalidRequestError("use path", _shown(path), "neither a regular file nor a block device")
            yield Place(path, parent, name, fd)

    @contextmanager
    def anything(self, path: str) -> Iterator[Place]:
        """Open whatever is at ``path``, itself not a symbolic link. Raise as ``directory`` does."""
        with ExitStack() as stack:
            parent, name = self._parent(stack, path)
            fd = _enter(stack, path, name, parent, _ANYTHING)
            # Not by fstat: it fails on the root of a file system that has shut itself down.
            if _is_link(fd):
                raise InvalidRequestError("use path", _shown(path), "it is a symbolic link")
            yield Place(path, parent, name, fd)

    @contextmanager
    def parent(self, path: str) -> Iterator[str]:
        """Open only the directory that ``path`` is in; yield a path to the name in it, for umount2(2).

        The last component is not looked at. Raise as ``directory`` does.
        """
        with ExitStack() as stack:
            fd, name = self._parent(stack, path)
            yield f"/proc/self/fd/{fd}/{name}"

    def mounted(self, path: str) -> Mount | None:
        """Return the topmost mount at ``path``; None if nothing is mounted there, or nothing is there at all.

        Raise InvalidRequestError as ``directory`` does.
        """
        try:
            with self.anything(path) as place:
                return place.mounted()
        except NotFoundError:
            return None

    def remove(self, path: str) -> None:
        """Remove the empty directory or empty file at ``path``; do nothing if it is gone.

        Raise StateError if something is mounted on it or it is not empty: nothing is removed with its content;
        BusyError if it is replaced meanwhile; InvalidRequestError as ``directory`` does, and for a symbolic link.
        """
        with ExitStack() as stack:
            try:
                parent, name = self._parent(stack, path)
            except NotFoundError:
                return
            try:
                status = os.stat(name, dir_fd=parent, follow_symlinks=False)
                if stat.S_ISDIR(status.st_mode):
                    os.rmdir(name, dir_fd=parent)
                elif not stat.S_ISREG(status.st_mode):
                    if self.mounted(path) is not None:
                        raise StateError("remove", path, "something is mounted on it", way_out="unmount it")
                    raise InvalidRequestError("remove", path, "neither a directory nor a regular file")
                elif status.st_size:
                    raise StateError("remove", path, f"the file holds {status.st_size} bytes", way_out="look at it")
                else:
                    os.unlink(name, dir_fd=parent)
            except FileNotFoundError:
                return
            except OSError as error:
                raise _remove_error(path, error) from error

    def _parent(self, stack: ExitStack, path: str) -> tuple[int, str]:
        """Open the directory that ``path``'s last component is in."""
        *above, name = self.split(path)
        try:
            fd = os.open(self.path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            raise KernelError("open", self.path, "the directory of all targets", errno=error.errno or 0) from error
        stack.callback(os.close, fd)
        for part in above:
            fd = _enter(stack, path, part, fd, _DIRECTORY)
        return fd, name


def _malformed(path: str) -> str:
    if not path:
        return "it is empty"
    if "\0" in path:
        return "it contains NUL"
    try:
        encoded = os.fsencode(path)
    except UnicodeEncodeError:
        return "it is not text"
    parts = encoded.split(b"/")
    if len(encoded) > PATH_LIMIT or max(map(len, parts)) > _NAME_LIMIT:
        return f"it is longer than {PATH_LIMIT} bytes, or a component of it longer than {_NAME_LIMIT}"
    if not path.startswith("/"):
        return "it is not absolute"
    return "it contains '..'" if b".." in parts else ""


def _shown(path: str) -> str:
    """Return ``path`` as it may stand in a message: hostile ones are cut and escaped."""
    limit = 200
    shown = path if path.isprintable() and path else repr(path)
    return shown if len(shown) <= limit else shown[:limit] + "…"


def _enter(stack: ExitStack, path: str, name: str, parent: int, flags: int) -> int:
    try:
        fd = os.open(name, flags, dir_fd=parent)
    except OSError as error:
        raise _open_error("use path", path, error) from error
    stack.callback(os.close, fd)
    return fd


def _open_error(operation: str, path: str, error: OSError) -> DriverError:
    number = error.errno or 0
    if number == errno.ENOENT:
        return NotFoundError(operation, _shown(path), "it does not exist", errno=number)
    if number in (errno.ENOTDIR, errno.ELOOP):
        return InvalidRequestError(
            operation, _shown(path), "a component is a symbolic link or not a directory", errno=number
        )
    return KernelError(operation, _shown(path), "it cannot be opened", errno=number)


def _remove_error(path: str, error: OSError) -> DriverError:
    number = error.errno or 0
    if number in (errno.EISDIR, errno.ENOTDIR):
        return BusyError("remove", path, "somebody else replaced it just now", errno=number)
    if number in (errno.ENOTEMPTY, errno.EEXIST):
        return StateError("remove", path, "the directory is not empty", errno=number, way_out="look at what it holds")
    if number == errno.EBUSY:
        return StateError("remove", path, "something is mounted on it", errno=number, way_out="unmount it")
    return KernelError("remove", path, "the path cannot be removed", errno=number)


def _status(fd: int, path: str) -> os.stat_result:
    try:
        return os.fstat(fd)
    except OSError as error:
        raise _open_error("look at", path, error) from error


def _is_link(fd: int) -> bool:
    try:
        os.readlink("", dir_fd=fd)
    except OSError:
        return False
    return True


def _make(path: str, make: Callable[[], None]) -> None:
    try:
        make()
    except FileExistsError:
        return
    except OSError as error:
        number = error.errno or 0
        if number == errno.ENOENT:
            raise NotFoundError("make", _shown(path), "its directory is gone", errno=number) from error
        raise KernelError("make", _shown(path), "it cannot be made", errno=number) from error


def _mount_id(fd: int) -> int:
    """Return the id of the mount that ``fd`` lies on (proc_pid_fdinfo(5)), with no look at the file system itself."""
    path = f"/proc/self/fdinfo/{fd}"
    try:
        with open(path, encoding="ascii") as file:
            for line in file:
                key, _, value = line.partition(":")
                if key == "mnt_id":
                    return int(value)
    except OSError as error:
        raise KernelError("read", path, "is /proc mounted?", errno=error.errno or 0) from error
    raise KernelError("read", path, "it names no mount")
