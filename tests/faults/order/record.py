"""The record of a disk's writes that the kernel's dm-log-writes makes, and its replay.

The format is that of drivers/md/dm-log-writes.c: a superblock in the first sector, then entries, each a sector with a
header and, unless it is a discard or a mark, the data.
"""

import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

_MAGIC: Final = 0x6A736677736872
_SUPER: Final = struct.Struct("<QQQI")
_ENTRY: Final = struct.Struct("<QQQQ")
_FLUSH, _FUA, _DISCARD, _MARK = 1, 2, 4, 8


@dataclass(frozen=True)
class Entry:
    """One write, discard, flush or mark. Offsets and lengths in bytes."""

    offset: int
    length: int
    flags: int
    mark: str
    data: int
    """Where in the record the data lies."""

    @property
    def durable(self) -> bool:
        """Whether all before it is on the disk when it is done: a flush, a write through the cache, or a mark."""
        return bool(self.flags & (_FLUSH | _FUA | _MARK))


def entries(record: str) -> Iterator[Entry]:
    """Read a record from its beginning."""
    with open(record, "rb", buffering=0) as file:
        magic, version, count, sector = _SUPER.unpack(file.read(512)[: _SUPER.size])
        assert (magic, version) == (_MAGIC, 1), "not a record of dm-log-writes"
        place = sector
        for _ in range(count):
            file.seek(place)
            header = file.read(sector)
            offset, length, flags, text = _ENTRY.unpack(header[: _ENTRY.size])
            place += sector
            mark = header[_ENTRY.size : _ENTRY.size + text].decode() if flags & _MARK else ""
            yield Entry(offset * sector, length * sector, flags, mark, place)
            if not flags & (_DISCARD | _MARK):
                place += length * sector


def apply(entry: Entry, record: int, image: int) -> None:
    """Write what an entry wrote. What was discarded may stay: a disk promises nothing of it."""
    if entry.flags & (_DISCARD | _MARK) or not entry.length:
        return
    left, offset, data = entry.length, entry.offset, entry.data
    while left:
        chunk = os.pread(record, min(left, 1 << 20), data)
        os.pwrite(image, chunk, offset)
        left, offset, data = left - len(chunk), offset + len(chunk), data + len(chunk)
