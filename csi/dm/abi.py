"""The binary interface of /dev/mapper/control, and the one function through which every ioctl of the driver goes.

Facts are from the kernel's include/uapi/linux/dm-ioctl.h and drivers/md/dm-ioctl.c. A request is a buffer that
begins with ``struct dm_ioctl`` (312 bytes); what belongs to the command follows at ``data_start``, and the kernel
writes its answer over the same buffer.
"""

import ctypes
import enum
import functools
import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Self

HEADER_SIZE: Final = 312
"""``sizeof(struct dm_ioctl)``."""

NAME_SIZE: Final = 128
UUID_SIZE: Final = 129
"""``DM_NAME_LEN`` and ``DM_UUID_LEN``: the fields of the header, with the closing NUL."""

UDEV_QUIET: Final = 0x6E << 16
"""What ``event_nr`` carries towards udev, with no cookie (low 16 bits), so that nobody waits for udev.

The bits (libdevmapper.h, ``DM_UDEV_*``): no subsystem rules, no disk rules, no other rules (so no scan and no link by
file system UUID), no library fallback, and the mark of a primary source.
"""

_HEADER: Final = struct.Struct("=3I I I I i I I I Q 128s 129s 7x")
_SPEC: Final = struct.Struct("=QQiI16s")
_NAME_ENTRY: Final = struct.Struct("=QI")
_VERSION_ENTRY: Final = struct.Struct("=I3I")
_MESSAGE: Final = struct.Struct("=Q")

# The lowest version of the interface that there is: the kernel refuses a newer one than its own and serves older ones.
_INTERFACE: Final = (4, 0, 0)


class Request(enum.IntEnum):
    """The commands that are used here; the ioctl's number is ``0xc138fd00 | command``."""

    VERSION = 0xC138FD00
    LIST_DEVICES = 0xC138FD02
    CREATE = 0xC138FD03
    REMOVE = 0xC138FD04
    SUSPEND = 0xC138FD06
    INFO = 0xC138FD07
    LOAD = 0xC138FD09
    CLEAR = 0xC138FD0A
    STATUS = 0xC138FD0C
    LIST_VERSIONS = 0xC138FD0D
    MESSAGE = 0xC138FD0E
    ARM_POLL = 0xC138FD10


class Flag(enum.IntFlag):
    """``DM_*_FLAG``."""

    READ_ONLY = 1 << 0
    SUSPEND = 1 << 1
    STATUS_TABLE = 1 << 4
    ACTIVE_PRESENT = 1 << 5
    INACTIVE_PRESENT = 1 << 6
    BUFFER_FULL = 1 << 8
    SKIP_LOCKFS = 1 << 10
    NO_FLUSH = 1 << 11
    DATA_OUT = 1 << 16
    DEFERRED_REMOVE = 1 << 17


@dataclass(frozen=True)
class Header:
    """``struct dm_ioctl`` as the kernel filled it in."""

    version: tuple[int, int, int]
    data_size: int
    data_start: int
    target_count: int
    open_count: int
    flags: Flag
    event_nr: int
    dev: int
    name: str
    uuid: str

    @classmethod
    def unpack(cls, buffer: bytes | bytearray) -> Self:
        """Read the first 312 bytes of ``buffer``."""
        first, second, third, size, start, count, opened, flags, event, _, dev, name, uuid = _HEADER.unpack_from(buffer)
        return cls(
            (first, second, third), size, start, count, opened, Flag(flags), event, dev, _text(name), _text(uuid)
        )


def pack(
    *,
    name: str = "",
    uuid: str = "",
    flags: Flag | int = 0,
    event_nr: int = 0,
    target_count: int = 0,
    payload: bytes = b"",
    room: int = 0,
) -> bytearray:
    """Return a request: the header, ``payload`` after it, and at least ``room`` bytes there for the answer.

    Raise ValueError for a name or UUID that the kernel's fields cannot hold.
    """
    fields = []
    for what, text, size in (("name", name, NAME_SIZE), ("UUID", uuid, UUID_SIZE)):
        raw = text.encode()
        if len(raw) >= size or b"\0" in raw:
            message = f"not a device-mapper {what}: {text!r}"
            raise ValueError(message)
        fields.append(raw)
    size = HEADER_SIZE + max(len(payload), room)
    buffer = bytearray(size)
    _HEADER.pack_into(
        buffer, 0, *_INTERFACE, size, HEADER_SIZE, target_count, 0, int(flags), event_nr & 0xFFFFFFFF, 0, 0, *fields
    )
    buffer[HEADER_SIZE : HEADER_SIZE + len(payload)] = payload
    return buffer


def pack_target(start: int, length: int, target: str, params: str) -> bytes:
    """Return one ``struct dm_target_spec`` with its parameters, padded so that the next one is aligned."""
    kind = target.encode()
    if not 0 < len(kind) < 16 or b"\0" in kind or "\0" in params:  # noqa: PLR2004 - DM_MAX_TYPE_NAME
        message = f"not a device-mapper target: {target!r} {params!r}"
        raise ValueError(message)
    text = params.encode() + b"\0"
    size = -(-(_SPEC.size + len(text)) // 8) * 8
    # On loading, ``next`` counts from the start of this spec.
    return _SPEC.pack(start, length, 0, size, kind).ljust(_SPEC.size, b"\0") + text.ljust(size - _SPEC.size, b"\0")


def unpack_targets(buffer: bytes | bytearray, header: Header) -> Iterator[tuple[int, int, str, str]]:
    """Yield (start, length, target, text) of a status or table answer."""
    place = header.data_start
    for _ in range(header.target_count):
        start, length, _status, following, kind = _SPEC.unpack_from(buffer, place)
        yield start, length, _text(kind), _string(buffer, place + _SPEC.size)
        # In an answer, ``next`` counts from the first spec (drivers/md/dm-ioctl.c, retrieve_status).
        place = header.data_start + following


def unpack_names(buffer: bytes | bytearray, header: Header) -> Iterator[tuple[int, str]]:
    """Yield (device number, name) of a list of devices (``struct dm_name_list``)."""
    place = header.data_start
    # A list without any device is one entry with number 0 (drivers/md/dm-ioctl.c, list_devices).
    while header.data_size - place >= _NAME_ENTRY.size:
        dev, following = _NAME_ENTRY.unpack_from(buffer, place)
        if dev:
            yield dev, _string(buffer, place + _NAME_ENTRY.size)
        if not following:
            return
        place += following


def unpack_versions(buffer: bytes | bytearray, header: Header) -> Iterator[tuple[str, tuple[int, int, int]]]:
    """Yield (target, version) of a list of targets (``struct dm_target_versions``)."""
    place = header.data_start
    while header.data_size - place >= _VERSION_ENTRY.size:
        following, first, second, third = _VERSION_ENTRY.unpack_from(buffer, place)
        yield _string(buffer, place + _VERSION_ENTRY.size), (first, second, third)
        if not following:
            return
        place += following


def pack_message(sector: int, text: str) -> bytes:
    """Return one ``struct dm_target_msg``."""
    return _MESSAGE.pack(sector) + text.encode() + b"\0"


def unpack_message(buffer: bytes | bytearray, header: Header) -> str:
    """Return what a target answered to a message; '' for most."""
    return _string(buffer, header.data_start) if header.flags & Flag.DATA_OUT else ""


def ioctl(descriptor: int, request: int, buffer: bytearray | None = None) -> None:
    """Make the system call with ``buffer``, which the kernel may change, while other threads run. Raise OSError.

    ``fcntl.ioctl`` keeps the interpreter's lock for buffers over 1,024 bytes: a suspend that waits for a full pool
    would then stop the very thread that must extend it. A foreign function called through ctypes never keeps it.
    """
    argument = (ctypes.c_char * len(buffer)).from_buffer(buffer) if buffer is not None else None
    if _libc().ioctl(descriptor, request, argument) == -1:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def signal_thread(process: int, thread: int, number: int) -> None:
    """Send signal ``number`` to one thread of ``process`` (tgkill(2)); nothing happens if it is gone."""
    _libc().tgkill(process, thread, number)


@functools.cache
def _libc() -> ctypes.CDLL:
    library = ctypes.CDLL(None, use_errno=True)
    library.ioctl.argtypes = [ctypes.c_int, ctypes.c_ulong, ctypes.c_void_p]
    library.ioctl.restype = ctypes.c_int
    library.tgkill.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_int]
    library.tgkill.restype = ctypes.c_int
    return library


def _text(field: bytes) -> str:
    return field.split(b"\0", 1)[0].decode(errors="replace")


def _string(buffer: bytes | bytearray, place: int) -> str:
    end = buffer.find(b"\0", place)
    return bytes(buffer[place : end if end >= 0 else len(buffer)]).decode(errors="replace")
