"""The metadata of a pool that is not active, read and written by thin-provisioning-tools.

What the versions 0.9.0 (Debian 12) and 1.1.0 (Debian 13) do with damage was tried, not read, and is this:

- ``thin_dump`` without ``--repair`` fails wherever it comes to damage, so what it dumps is whole and of the newest
  transaction; with ``--dev-id`` it comes to one device alone.
- ``thin_repair`` of 1.1.0 takes the newest roots that fit each other: it yields a whole state, which may be an older
  one, or fails.
- ``thin_repair`` of 0.9.0 leaves out the mappings or devices that it cannot read, answers 0, and a volume then reads as
  zeros in these places: it is not used.
"""

import os
import re
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Final

from csi.errors import CommandError, KernelError
from csi.model import ThinId
from csi.process import run
from csi.units import SECTOR, Blocks, Bytes, round_up

_DEADLINE: Final = 6 * 3600.0
"""For all of 15.8 GiB of metadata."""
_SHORT: Final = 60.0
# 0.9.0 exits with 1, later versions with 64, for whatever it is that they do not like.
_STATUSES: Final = (0, 1, 64)

# drivers/md/dm-thin-metadata.c, ``struct thin_disk_superblock``: checksum, flags; THIN_METADATA_NEEDS_CHECK_FLAG.
_FLAGS: Final = struct.Struct("<II")
_NEEDS_CHECK: Final = 1

_DEVICE: Final = re.compile(r'\s*<device dev_id="(\d{1,8})" mapped_blocks="(\d{1,20})"')
_HEADER: Final = re.compile(r'<superblock uuid="[^"]*" .*data_block_size="\d+" nr_data_blocks="\d+">')
_FLAGS_SET: Final = re.compile(r' flags="\d+"')

_SHOWN: Final = 5
_STEPS: Final = ("examining ", "checking ", "Checking ", "device details tree", "mapping tree", "data space map")

_END: Final = "</superblock>"

# A leaf of 4 KiB holds 252 mappings; thin_restore fills it by half. The rest is for the space maps and the trees above.
_BYTES_A_MAPPING: Final = 36
_BYTES_A_DEVICE: Final = 8192
_BYTES_BESIDES: Final = 4 << 20


@dataclass(frozen=True)
class Described:
    """What metadata says of itself."""

    header: str
    """The first line of its XML."""
    mapped: dict[ThinId, int]
    """By device, the blocks it should map."""


@dataclass(frozen=True)
class Known:
    """What a lost superblock would have said."""

    transaction_id: int
    block_size: Bytes
    data_blocks: Blocks


def check(path: str, *, clear: bool = False) -> str:
    """Return what thin_check has against the metadata at ``path``; '' if it is sound. Raise CommandError.

    ``clear`` takes the kernel's mark that it must be checked from sound metadata.
    """
    argv = ["thin_check", *(["--clear-needs-check-flag"] if clear else []), path]
    done = run(argv, deadline=_DEADLINE, ok=_STATUSES)
    if not done.status:
        return ""
    # Both versions mix the steps that they come to into what they found.
    lines = [line.strip() for line in (done.stderr + done.stdout).splitlines()]
    found = [line for line in lines if line and not line.startswith(_STEPS) and "=" not in line]
    distinct = list(dict.fromkeys(found)) or [f"exit status {done.status}"]
    return "; ".join(distinct[:_SHOWN] + ([f"{len(distinct) - _SHOWN} more"] if len(distinct) > _SHOWN else []))


def superblock_sound(path: str) -> bool:
    """Tell whether the superblock can be read. Raise CommandError."""
    argv = ["thin_check", "--quiet", "--super-block-only", path]
    return run(argv, deadline=_SHORT, ok=_STATUSES).status == 0


def needs_check(path: str) -> bool:
    """Tell whether sound metadata carries the kernel's mark that it must be checked. Raise KernelError."""
    try:
        with open(path, "rb") as stream:
            _, flags = _FLAGS.unpack(stream.read(_FLAGS.size))
    except (OSError, struct.error) as error:
        number = getattr(error, "errno", None) or 0
        raise KernelError("read superblock", path, "it cannot be read", errno=number) from error
    return bool(flags & _NEEDS_CHECK)


def repairs_in_full() -> bool:
    """Tell whether thin_repair never leaves anything out without saying so: from version 1 on. Raise CommandError."""
    said = run(["thin_repair", "--version"], deadline=_SHORT).stdout
    return not re.search(r"\b0\.\d+\.\d+", said)


def describe(path: str) -> Described | None:
    """Return what the metadata says of itself; None if it cannot be read so far. Raise CommandError."""
    done = run(["thin_dump", "--skip-mappings", path], deadline=_DEADLINE, ok=_STATUSES)
    header, *lines = done.stdout.splitlines() or [""]
    if done.status or not _HEADER.fullmatch(header):
        return None
    found = [match for match in map(_DEVICE.match, lines) if match]
    return Described(_FLAGS_SET.sub("", header), {ThinId(int(match[1])): int(match[2]) for match in found})


def dump(path: str, file: Path, *, thin: ThinId | None = None) -> bool:
    """Write the XML of all metadata, or of one device, to ``file``; tell whether all of that could be read.

    Raise CommandError where it is the file that could not be written.
    """
    argv = ["thin_dump", *(("--dev-id", str(thin)) if thin is not None else ()), path, "-o"]
    done = run([*argv, str(file)], deadline=_DEADLINE, ok=_STATUSES)
    if not done.status:
        if _tail(file) != _END:
            # 0.9.0 does not look whether what it wrote was written.
            raise CommandError("write", str(file), "its end is missing", way_out="make room on its file system")
        # Of a device that the trees do not lead to, both versions dump nothing, and are content.
        return thin is None or _holds(file, thin)
    if not run([*argv, "/dev/null"], deadline=_DEADLINE, ok=_STATUSES).status:
        raise CommandError(
            "write", str(file), f"thin_dump: {done.stderr.strip()[-200:]}", way_out="make room on its file system"
        )
    return False


def _holds(file: Path, thin: ThinId) -> bool:
    with file.open() as stream:
        found = [match for match in map(_DEVICE.match, islice(stream, 2)) if match]
    return [int(match[1]) for match in found] == [thin]


def _tail(file: Path) -> str:
    with file.open("rb") as stream:
        stream.seek(max(0, stream.seek(0, os.SEEK_END) - len(_END) - 1))
        return stream.read(len(_END) + 1).decode(errors="replace").strip()


def merged(header: str, parts: Iterable[Iterable[str]]) -> Iterator[str]:
    """Return the lines of one XML with the devices of each of ``parts``, XMLs of one device each."""
    yield f"{header}\n"
    for part in parts:
        for line in part:
            if not line.lstrip().startswith(("<superblock", "</superblock")):
                yield line if line.endswith("\n") else f"{line}\n"
    yield f"{_END}\n"


def room_for(mapped: dict[ThinId, int], extent: Bytes) -> Bytes:
    """Return how much metadata these devices take when none of it is shared, as it is after a dump of each."""
    total = sum(mapped.values()) * _BYTES_A_MAPPING + len(mapped) * _BYTES_A_DEVICE + _BYTES_BESIDES
    return round_up(Bytes(total), extent)


def restore(file: Path, target: str) -> None:
    """Write the XML in ``file`` as metadata to ``target``. Raise CommandError, also if it does not fit."""
    run(["thin_restore", "--quiet", "-i", str(file), "-o", target], deadline=_DEADLINE)


def repair(source: str, target: str, known: Known | None) -> None:
    """Write to ``target`` the newest whole state that thin_repair finds in ``source``. Raise CommandError.

    ``known`` replaces a lost superblock. That anything was found must be looked at by ``describe``.
    """
    options: tuple[str, ...] = ()
    if known is not None:
        options = (
            *("--transaction-id", str(known.transaction_id)),
            *("--data-block-size", str(known.block_size // SECTOR)),
            *("--nr-data-blocks", str(known.data_blocks)),
        )
    run(["thin_repair", *options, "-i", source, "-o", target], deadline=_DEADLINE)
