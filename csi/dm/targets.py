"""Device-mapper tables and status lines as values: they parse, and they print what they parsed.

The forms are those of the kernel's Documentation/admin-guide/device-mapper/{linear,thin-provisioning}.rst and of
``pool_status``/``thin_status`` in drivers/md/dm-thin.c. Nothing is guessed: a line of another form is a ValueError
that shows it.
"""

import enum
import re
from dataclasses import dataclass
from typing import Final, NoReturn, Self

from csi.units import SECTOR, Blocks, Bytes, Sectors, sectors

METADATA_BLOCK: Final = Bytes(4096)
"""What ``metadata_used`` and ``metadata_total`` count (THIN_METADATA_BLOCK_SIZE; 8 sectors)."""

_DEVICE: Final = re.compile(r"\d+:\d+|/\S+")
_NUMBER: Final = re.compile(r"\d{1,20}")


@dataclass(frozen=True)
class Line:
    """One line of a table or a status: where it lies on the device, its target, and the target's text."""

    start: Sectors
    length: Sectors
    type: str
    params: str

    def __str__(self) -> str:
        """As dmsetup prints it."""
        return f"{self.start} {self.length} {self.type} {self.params}".rstrip()


@dataclass(frozen=True)
class Linear:
    """A stretch of another device."""

    length: Sectors
    device: str
    """``major:minor``, or a path when it is loaded."""
    offset: Sectors = Sectors(0)
    start: Sectors = Sectors(0)

    def line(self) -> Line:
        """Return the table line."""
        return Line(self.start, self.length, "linear", f"{self.device} {self.offset}")

    @classmethod
    def parse(cls, line: Line) -> Self:
        """Read a table line. Raise ValueError for any other."""
        words = _words(line, "linear")
        if len(words) != 2 or not _DEVICE.fullmatch(words[0]):  # noqa: PLR2004 - device, offset
            _reject(line)
        return cls(line.length, words[0], Sectors(_number(line, words[1])), line.start)


@dataclass(frozen=True)
class Thin:
    """A thin device of a pool."""

    size: Bytes
    pool: str
    """``major:minor`` of the pool's device."""
    thin: int

    def line(self) -> Line:
        """Return the table line. Raise ValueError if the size is not a whole number of sectors."""
        return Line(Sectors(0), sectors(self.size), "thin", f"{self.pool} {self.thin}")

    @classmethod
    def parse(cls, line: Line) -> Self:
        """Read a table line. Raise ValueError for any other, and for one with an external origin."""
        words = _words(line, "thin")
        if len(words) != 2 or line.start or not _DEVICE.fullmatch(words[0]):  # noqa: PLR2004 - pool, id
            _reject(line)
        return cls(Bytes(line.length * SECTOR), words[0], _number(line, words[1]))


class Discards(enum.StrEnum):
    """What a pool does with discards."""

    PASSDOWN = "discard_passdown"
    NO_PASSDOWN = "no_discard_passdown"
    IGNORE = "ignore_discard"


@dataclass(frozen=True)
class ThinPoolTable:
    """A thin pool over a metadata and a data device."""

    length: Sectors
    metadata: str
    data: str
    block_size: Bytes
    low_water: Blocks
    """Free data blocks at which the kernel raises an event; 0: only at the end."""
    zeroing: bool = True
    """Whether new blocks are zeroed. Never False here: a tenant must not read another's blocks."""
    discards: Discards = Discards.PASSDOWN
    read_only: bool = False
    error_if_no_space: bool = False

    def line(self) -> Line:
        """Return the table line."""
        features = []
        if not self.zeroing:
            features.append("skip_block_zeroing")
        if self.discards is not Discards.PASSDOWN:
            features.append(self.discards.value)
        if self.read_only:
            features.append("read_only")
        if self.error_if_no_space:
            features.append("error_if_no_space")
        words = [self.metadata, self.data, str(sectors(self.block_size)), str(self.low_water), str(len(features))]
        return Line(Sectors(0), self.length, "thin-pool", " ".join([*words, *features]))

    @classmethod
    def parse(cls, line: Line) -> Self:
        """Read a table line. Raise ValueError for any other."""
        words = _words(line, "thin-pool")
        if len(words) < 4 or line.start or not all(map(_DEVICE.fullmatch, words[:2])):  # noqa: PLR2004
            _reject(line)
        features = set(words[5:])
        if len(words) > 4 and _number(line, words[4]) != len(words) - 5:  # noqa: PLR2004 - the count and what it counts
            _reject(line)
        known = {"skip_block_zeroing", "read_only", "error_if_no_space", Discards.NO_PASSDOWN, Discards.IGNORE}
        if features - known or len(features) != len(words[5:]):
            _reject(line)
        if Discards.IGNORE in features:
            discards = Discards.IGNORE
        else:
            discards = Discards.NO_PASSDOWN if Discards.NO_PASSDOWN in features else Discards.PASSDOWN
        return cls(
            length=line.length,
            metadata=words[0],
            data=words[1],
            block_size=Bytes(_number(line, words[2]) * SECTOR),
            low_water=Blocks(_number(line, words[3])),
            zeroing="skip_block_zeroing" not in features,
            discards=discards,
            read_only="read_only" in features,
            error_if_no_space="error_if_no_space" in features,
        )


class PoolMode(enum.StrEnum):
    """How a pool serves."""

    READ_WRITE = "rw"
    READ_ONLY = "ro"
    """Also what a pool out of metadata space shows."""
    OUT_OF_DATA_SPACE = "out_of_data_space"
    FAIL = "fail"
    """Everything fails, and the status has no figures; they are 0 then."""


@dataclass(frozen=True)
class ThinPoolStatus:
    """What a thin pool says about itself."""

    mode: PoolMode
    transaction_id: int = 0
    metadata_used: int = 0
    """In blocks of 4 KiB (METADATA_BLOCK)."""
    metadata_total: int = 0
    data_used: Blocks = Blocks(0)
    data_total: Blocks = Blocks(0)
    held_root: int | None = None
    """The block of the metadata snapshot, while one is reserved."""
    discards: Discards = Discards.PASSDOWN
    queue_if_no_space: bool = True
    needs_check: bool = False
    metadata_low_water: int | None = None
    """In metadata blocks; None with kernels that do not tell."""

    @property
    def serves(self) -> bool:
        """Whether changes reach the metadata: neither read-only nor failed, and no check is needed.

        A pool that is out of data space still commits its metadata.
        """
        return self.mode in (PoolMode.READ_WRITE, PoolMode.OUT_OF_DATA_SPACE) and not self.needs_check

    @property
    def healthy(self) -> bool:
        """Whether it is ``rw`` and needs no check."""
        return self.mode is PoolMode.READ_WRITE and not self.needs_check

    @classmethod
    def parse(cls, line: Line) -> Self:
        """Read a status line. Raise ValueError for any other; ``Fail`` and ``Error`` give the mode FAIL."""
        words = _words(line, "thin-pool")
        if words in (["Fail"], ["Error"]):
            return cls(PoolMode.FAIL)
        if len(words) not in (8, 9):
            _reject(line)
        metadata_used, metadata_total = _pair(line, words[1])
        data_used, data_total = _pair(line, words[2])
        if words[6] not in ("queue_if_no_space", "error_if_no_space") or words[7] not in ("-", "needs_check"):
            _reject(line)
        try:
            mode, discards = PoolMode(words[4]), Discards(words[5])
        except ValueError:
            _reject(line)
        return cls(
            mode=mode,
            transaction_id=_number(line, words[0]),
            metadata_used=metadata_used,
            metadata_total=metadata_total,
            data_used=Blocks(data_used),
            data_total=Blocks(data_total),
            held_root=None if words[3] == "-" else _number(line, words[3]),
            discards=discards,
            queue_if_no_space=words[6] == "queue_if_no_space",
            needs_check=words[7] == "needs_check",
            metadata_low_water=_number(line, words[8]) if len(words) == 9 else None,  # noqa: PLR2004
        )


@dataclass(frozen=True)
class ThinStatus:
    """How much of a thin device is mapped to blocks of the pool."""

    mapped: Sectors
    highest: Sectors | None
    """The highest mapped sector; None if nothing is mapped."""

    @classmethod
    def parse(cls, line: Line) -> Self | None:
        """Read a status line; None for ``Fail``, ``Error`` and ``-``: it cannot be told (never the same as empty).

        Raise ValueError for a line of another form.
        """
        words = _words(line, "thin")
        if words in (["Fail"], ["Error"], ["-"]):
            return None
        if len(words) != 2:  # noqa: PLR2004 - mapped, highest
            _reject(line)
        return cls(Sectors(_number(line, words[0])), None if words[1] == "-" else Sectors(_number(line, words[1])))


def _words(line: Line, target: str) -> list[str]:
    if line.type != target:
        message = f"not a line of a {target} target: {line}"
        raise ValueError(message)
    return line.params.split(" ") if line.params.strip(" ") == line.params else line.params.split()


def _number(line: Line, word: str) -> int:
    if not _NUMBER.fullmatch(word) or not word.isascii():
        _reject(line)
    return int(word)


def _pair(line: Line, word: str) -> tuple[int, int]:
    used, _, total = word.partition("/")
    return _number(line, used), _number(line, total)


def _reject(line: Line) -> NoReturn:
    message = f"not understood: {line}"
    raise ValueError(message)
