"""The device-mapper's control device: one method a command, each one ioctl, none of which waits for udev."""

import errno
import os
import stat
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from types import TracebackType
from typing import Final, Self

from csi.dm import abi
from csi.dm.abi import Flag, Header, Request
from csi.dm.targets import Line
from csi.errors import KernelError, UnavailableError
from csi.units import Sectors

CONTROL: Final = "/dev/mapper/control"

_NONE: Final = Flag(0)
_ROOM: Final = 16 << 10
# 10,000 devices take about 1 MiB of a list.
_MOST_ROOM: Final = 64 << 20


@dataclass(frozen=True)
class DeviceName:
    """A device of the list of all."""

    name: str
    major: int
    minor: int


@dataclass(frozen=True)
class Info:
    """The state of one device (``struct dm_ioctl`` of DM_DEV_STATUS)."""

    name: str
    uuid: str
    major: int
    minor: int
    open_count: int
    event_nr: int
    suspended: bool
    readonly: bool
    has_live_table: bool
    has_inactive_table: bool

    @property
    def number(self) -> str:
        """``major:minor``, as tables name a device."""
        return f"{self.major}:{self.minor}"

    @property
    def path(self) -> str:
        """The node that devtmpfs makes; links under /dev/mapper need udev."""
        return f"/dev/dm-{self.minor}"

    @classmethod
    def of(cls, header: Header) -> Self:
        """Take the state out of an answer."""
        return cls(
            name=header.name,
            uuid=header.uuid,
            major=os.major(header.dev),
            minor=os.minor(header.dev),
            open_count=header.open_count,
            event_nr=header.event_nr,
            suspended=bool(header.flags & Flag.SUSPEND),
            readonly=bool(header.flags & Flag.READ_ONLY),
            has_live_table=bool(header.flags & Flag.ACTIVE_PRESENT),
            has_inactive_table=bool(header.flags & Flag.INACTIVE_PRESENT),
        )


class Control:
    """The open control device. Threads may share one: each call has a buffer of its own.

    Every method raises KernelError with the kernel's errno, the operation and the device's name.
    """

    def __init__(self, path: str = CONTROL) -> None:
        """Open it. Raise UnavailableError if there is none (the module dm-mod is not loaded)."""
        way_out = "load the kernel module dm-mod (modprobe dm-mod) and give the container the host's /dev"
        try:
            self._descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        except OSError as error:
            raise UnavailableError(
                "open the device-mapper", path, "no device-mapper here", errno=error.errno or 0, way_out=way_out
            ) from error
        if not stat.S_ISCHR(os.fstat(self._descriptor).st_mode):
            self.close()
            raise UnavailableError("open the device-mapper", path, "not a device", way_out=way_out)

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close it."""
        self.close()

    def close(self) -> None:
        """Close the control device; again does nothing."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)

    def fileno(self) -> int:
        """Return the descriptor, for poll(2)."""
        return self._descriptor

    def version(self) -> tuple[int, int, int]:
        """Return the version of the kernel's device-mapper interface."""
        return self._call("read version of the device-mapper", "", Request.VERSION, lambda _room: abi.pack())[0].version

    def target_versions(self) -> dict[str, tuple[int, int, int]]:
        """Return the targets that the kernel has loaded, with their versions."""
        header, buffer = self._call(
            "list targets", "", Request.LIST_VERSIONS, lambda room: abi.pack(room=room), room=_ROOM
        )
        return dict(abi.unpack_versions(buffer, header))

    def devices(self) -> list[DeviceName]:
        """Return all device-mapper devices of the machine."""
        header, buffer = self._call(
            "list devices", "", Request.LIST_DEVICES, lambda room: abi.pack(room=room), room=_ROOM
        )
        return [DeviceName(name, os.major(dev), os.minor(dev)) for dev, name in abi.unpack_names(buffer, header)]

    def create(self, name: str, uuid: str = "") -> Info:
        """Make a device with no table. EBUSY: the name or the UUID is taken."""
        return self._device("create device", Request.CREATE, name, uuid=uuid, event_nr=abi.UDEV_QUIET)

    def load(self, name: str, targets: Iterable[Line], *, readonly: bool = False) -> None:
        """Load a table into the inactive slot; ``resume`` makes it live."""
        lines = list(targets)
        payload = b"".join(abi.pack_target(line.start, line.length, line.type, line.params) for line in lines)
        flags = Flag.READ_ONLY if readonly else _NONE
        self._device("load table", Request.LOAD, name, flags=flags, target_count=len(lines), payload=payload)

    def resume(self, name: str, *, flush: bool = True, lockfs: bool = True) -> Info:
        """Make the inactive table live, if there is one, and let I/O run.

        To swap tables the kernel suspends a running device first: ``flush`` and ``lockfs`` are for that.
        """
        flags = _suspend_flags(flush=flush, lockfs=lockfs)
        return self._device("resume device", Request.SUSPEND, name, flags=flags, event_nr=abi.UDEV_QUIET)

    def suspend(self, name: str, *, flush: bool = True, lockfs: bool = True) -> None:
        """Stop I/O: ``lockfs`` freezes a mounted file system, ``flush`` waits for what is under way.

        Waits as long as that takes. EBUSY: somebody else froze the file system; EINTR: a signal ended the wait; the
        device then runs. Suspending a suspended device does nothing.
        """
        flags = Flag.SUSPEND | _suspend_flags(flush=flush, lockfs=lockfs)
        self._device("suspend device", Request.SUSPEND, name, flags=flags)

    def clear(self, name: str) -> None:
        """Drop the inactive table, if there is one."""
        self._device("clear table", Request.CLEAR, name)

    def remove(self, name: str, *, deferred: bool = False) -> None:
        """Remove a device. EBUSY: it is open; with ``deferred`` the kernel then removes it at the last close."""
        flags = Flag.DEFERRED_REMOVE if deferred else _NONE
        self._device("remove device", Request.REMOVE, name, flags=flags, event_nr=abi.UDEV_QUIET)

    def status(self, name: str, *, flush: bool = False) -> list[Line]:
        """Return the status of the live table, line by line; ``flush`` makes a thin pool commit first."""
        return self._lines("read status", name, _NONE if flush else Flag.NO_FLUSH)

    def table(self, name: str) -> list[Line]:
        """Return the live table, line by line; none if the device has none."""
        return self._lines("read table", name, Flag.STATUS_TABLE | Flag.NO_FLUSH)

    def message(self, name: str, text: str, sector: int = 0) -> str:
        """Send ``text`` to the target at ``sector`` and return its answer."""
        payload = abi.pack_message(sector, text)
        header, buffer = self._call(
            f"send message {text.split(' ', 1)[0]!r}",
            name,
            Request.MESSAGE,
            lambda room: abi.pack(name=name, payload=payload, room=room),
            room=_ROOM,
        )
        return abi.unpack_message(buffer, header)

    def info(self, name: str) -> Info | None:
        """Return the state of a device; None if there is no such device."""
        return self._find(name, name=name)

    def info_by_uuid(self, uuid: str) -> Info | None:
        """Return the state of the device with this UUID; None if there is no such device."""
        return self._find(uuid, uuid=uuid)

    def arm_poll(self) -> None:
        """Have poll(2) on this descriptor answer once an event of any device follows (DM_DEV_ARM_POLL)."""
        self._call("arm the event poll", "", Request.ARM_POLL, lambda _room: abi.pack())

    def _find(self, subject: str, *, name: str = "", uuid: str = "") -> Info | None:
        try:
            header, _ = self._call(
                "look up device", subject, Request.INFO, lambda _room: abi.pack(name=name, uuid=uuid)
            )
        except KernelError as error:
            if error.errno == errno.ENXIO:
                return None
            raise
        return Info.of(header)

    def _lines(self, operation: str, name: str, flags: Flag) -> list[Line]:
        header, buffer = self._call(
            operation, name, Request.STATUS, lambda room: abi.pack(name=name, flags=flags, room=room), room=_ROOM
        )
        return [
            Line(Sectors(start), Sectors(length), kind, text)
            for start, length, kind, text in abi.unpack_targets(buffer, header)
        ]

    def _device(
        self,
        operation: str,
        request: Request,
        name: str,
        *,
        uuid: str = "",
        flags: Flag = _NONE,
        event_nr: int = 0,
        target_count: int = 0,
        payload: bytes = b"",
    ) -> Info:
        def build(_room: int) -> bytearray:
            return abi.pack(
                name=name, uuid=uuid, flags=flags, event_nr=event_nr, target_count=target_count, payload=payload
            )

        return Info.of(self._call(operation, name, request, build)[0])

    def _call(
        self, operation: str, subject: str, request: Request, build: Callable[[int], bytearray], *, room: int = 0
    ) -> tuple[Header, bytearray]:
        """Send what ``build(room)`` returns, with more room each time the kernel says that its answer did not fit."""
        while True:
            buffer = build(room)
            try:
                abi.ioctl(self._descriptor, request, buffer)
            except OSError as error:
                raise KernelError(operation, subject, "the kernel refused", errno=error.errno or 0) from error
            header = Header.unpack(buffer)
            if not header.flags & Flag.BUFFER_FULL:
                return header, buffer
            room *= 2
            if not 0 < room <= _MOST_ROOM:
                raise KernelError(operation, subject, f"the kernel's answer does not fit in {_MOST_ROOM >> 20} MiB")


def _suspend_flags(*, flush: bool, lockfs: bool) -> Flag:
    return (_NONE if flush else Flag.NO_FLUSH) | (_NONE if lockfs else Flag.SKIP_LOCKFS)
