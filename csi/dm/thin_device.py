"""A thin device of ours: activation, growth, freezing, deactivation.

A device is found by its name and recognised by its UUID; its minor number changes with every activation. The pool
knows neither the device nor its size: both are in the table that is loaded here.
"""

import errno
import os
import time
from typing import Final

from csi.dm.ioctl import Control, Info
from csi.dm.targets import Thin, ThinStatus
from csi.errors import BusyError, KernelError, SizeError, StateError, UnavailableError
from csi.failpoint import hit
from csi.model import Handle, PoolId
from csi.units import Bytes, format_size

_UUID_PREFIX: Final = "THINPOOL-"
# udev, or a scan that somebody started, may hold a device open for a moment.
_BUSY_PATIENCE: Final = 2.0
_BUSY_PAUSE: Final = 0.05


class ThinDevice:
    """The device of one handle, active or not. The caller sees to it that one thread at a time changes it."""

    def __init__(self, control: Control, handle: Handle) -> None:
        """Nothing is looked at yet."""
        self._control = control
        self.handle = handle
        self.name = handle.device

    @property
    def path(self) -> str:
        """``/dev/dm-<minor>``. Raise StateError if the device is not active."""
        return self._active("find path").path

    def info(self) -> Info | None:
        """Return the device's state; None if it is not there. Raise KernelError if the name is another's."""
        info = self._control.info(self.name)
        if info is not None and info.uuid != self.handle.uuid:
            raise KernelError(
                "look up device", self.name, f"its UUID is {info.uuid!r}, not {self.handle.uuid!r}: it is not ours"
            )
        return info

    def activate(self, pool_number: str, size: Bytes) -> str:
        """Make the device appear with ``size`` bytes and return its path; again does nothing.

        Finishes what a crash left half made, resumes it if it is suspended, and grows it if it is active with a
        smaller size. Raise SizeError if it is larger, KernelError if it is active with another table, and whatever
        the kernel refuses (ENODATA on ``load table``: the pool has no such thin device). What was made is removed then.
        """
        wanted = Thin(size, pool_number, self.handle.thin)
        info = self.info()
        if info is not None and info.has_live_table:
            if info.has_inactive_table:
                # A growth that was cut short. Its table is not to become live by the way.
                self._control.clear(self.name)
            if self._check(wanted) < size:
                self._grow(wanted)
            elif info.suspended:
                self._control.resume(self.name)
            return self._check_node(info.path)
        try:
            if info is None:
                info = self._control.create(self.name, self.handle.uuid)
                hit("activate.after-create")
            self._control.load(self.name, [wanted.line()])
            hit("activate.after-load")
            self._control.resume(self.name)
        except KernelError:
            self._discard_half_made()
            raise
        return self._check_node(info.path)

    def resize(self, size: Bytes) -> None:
        """Grow the active device to ``size`` without freezing what is mounted; the same size does nothing.

        Raise SizeError for a smaller one (the kernel would take it), StateError if the device is not active.
        """
        self._active("resize")
        now = self._table()
        wanted = Thin(size, now.pool, self.handle.thin)
        if self._check(wanted) < size:
            self._grow(wanted)

    def deactivate(self) -> None:
        """Remove the device; one that is not there is no error.

        Raise StateError if it is still open after 2 s.
        """
        deadline = time.monotonic() + _BUSY_PATIENCE
        while (info := self.info()) is not None:
            try:
                self._control.remove(self.name)
            except KernelError as error:
                if error.errno == errno.ENXIO:
                    return
                if error.errno != errno.EBUSY:
                    raise
                if time.monotonic() >= deadline:
                    why = f"it is in use (open count {info.open_count})"
                    way_out = "unmount it, and end the processes that hold it open"
                    raise StateError("deactivate device", self.name, why, errno=errno.EBUSY, way_out=way_out) from error
                time.sleep(_BUSY_PAUSE)

    def require_closed(self) -> None:
        """See that nobody has the device open. Raise BusyError if somebody still has after 2 s."""
        deadline = time.monotonic() + _BUSY_PATIENCE
        while (info := self.info()) is not None and info.open_count:
            if time.monotonic() >= deadline:
                why = f"it is open (open count {info.open_count})"
                raise BusyError("take device", self.name, why, way_out="send it again later")
            time.sleep(_BUSY_PAUSE)

    def status(self) -> ThinStatus | None:
        """Return how much is mapped; None if the device is not active.

        Raise UnavailableError if the pool cannot tell: that is never the same as nothing being mapped.
        """
        info = self.info()
        if info is None or not info.has_live_table:
            return None
        lines = self._control.status(self.name)
        try:
            status = ThinStatus.parse(lines[0])
        except (ValueError, IndexError) as error:
            raise KernelError("read status", self.name, str(error)) from error
        if status is None:
            raise UnavailableError("read status", self.name, f"the pool answers {lines[0].params!r}")
        return status

    def freeze(self) -> None:
        """Suspend it: a mounted file system is frozen and everything under way is on the disk.

        Use Freezer.frozen, which sees to the end of it. Raise KernelError: EBUSY if somebody else froze the file
        system, EINTR if the wait was broken off; the device then runs on.
        """
        self._control.suspend(self.name)

    def thaw(self) -> None:
        """Resume it; one that runs goes on."""
        self._control.resume(self.name)

    def _active(self, operation: str) -> Info:
        info = self.info()
        if info is None or not info.has_live_table:
            raise StateError(operation, self.name, "the device is not active")
        return info

    def _table(self) -> Thin:
        lines = self._control.table(self.name)
        try:
            (line,) = lines
            return Thin.parse(line)
        except ValueError as error:
            shown = "; ".join(map(str, lines)) or "no table"
            raise KernelError("read table", self.name, f"not one thin target: {shown}") from error

    def _check(self, wanted: Thin) -> Bytes:
        """Return the size of the live table, if it is of the same thin device and not larger than ``wanted``."""
        now = self._table()
        if (now.pool, now.thin) != (wanted.pool, wanted.thin):
            why = f"it is active as thin device {now.thin} of pool {now.pool}, not {wanted.thin} of {wanted.pool}"
            raise KernelError("activate device", self.name, why, way_out="deactivate it first")
        if now.size > wanted.size:
            why = f"it has {format_size(now.size)} and cannot shrink to {format_size(wanted.size)}"
            raise SizeError("resize device", self.name, why)
        return now.size

    def _grow(self, wanted: Thin) -> None:
        self._control.load(self.name, [wanted.line()])
        hit("grow.after-load")
        try:
            # The same mapping with more behind it: I/O under way may simply be asked again, nothing needs to settle.
            self._control.resume(self.name, flush=False, lockfs=False)
        except KernelError:
            self._control.clear(self.name)
            raise

    def _discard_half_made(self) -> None:
        """Remove a device that never got a table. The first error is the one to tell, so this one's is dropped."""
        try:
            info = self._control.info(self.name)
            if info is not None and info.uuid == self.handle.uuid and not info.has_live_table:
                self._control.remove(self.name)
        except KernelError:
            # It stays half made, which the next activation finishes.
            return

    def _check_node(self, path: str) -> str:
        if not os.path.exists(path):
            raise UnavailableError(
                "activate device", self.name, f"{path} did not appear", way_out="the container needs the host's /dev"
            )
        return path


def ours(control: Control, pool: PoolId | None = None) -> list[Info]:
    """Return the active devices of ``pool`` (None: of every pool of this driver), by UUID."""
    prefix = f"{_UUID_PREFIX}{pool}-" if pool is not None else _UUID_PREFIX
    found = (control.info(device.name) for device in control.devices())
    return [info for info in found if info is not None and info.uuid.startswith(prefix)]


def thaw_all(control: Control, pool: PoolId | None = None) -> list[str]:
    """Resume every device of ``pool`` (None: of every pool of this driver) that is suspended; return their names.

    The first thing to do at a start: whoever suspended them is gone. All are tried; the first error is raised then.
    """
    thawed: list[str] = []
    failed: KernelError | None = None
    for info in ours(control, pool):
        if not info.suspended or not info.has_live_table:
            continue
        try:
            control.resume(info.name)
        except KernelError as error:
            failed = failed or error
        else:
            thawed.append(info.name)
    if failed is not None:
        raise failed
    return thawed
