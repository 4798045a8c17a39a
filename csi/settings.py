"""What a pool is wanted to be: the fields of a pools file, their defaults and their limits.

The names and defaults are those of Docker's devicemapper driver in the spelling of Kubernetes (see the README's
table). A wrong field is refused here, with its place in the file, before anything is touched.
"""

import enum
import re
import reprlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, TypeVar

from csi.errors import InvalidRequestError
from csi.model import PoolId, is_pool_id
from csi.units import GIB, KIB, MIB, Bytes, parse_size

BLOCK_SIZE_STEP: Final = Bytes(64 * KIB)
"""The kernel takes multiples of 64 KiB up to 1 GiB (drivers/md/dm-thin.c, ``DATA_DEV_BLOCK_SIZE_*``)."""

_NAME: Final = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
_MAX_FILE: Final = 1 << 20


class Mode(enum.StrEnum):
    """Where a pool's space lies."""

    DIRECT = "direct-lvm"
    LOOP = "loop-lvm"


class WhenFull(enum.StrEnum):
    """What writers of a full pool get."""

    WAIT = "wait"
    ERROR = "error"


class Trim(enum.StrEnum):
    """When the blocks that a file system has freed go back to the pool."""

    DAILY = "daily"
    ONLINE = "online"
    OFF = "off"


@dataclass(frozen=True)
class DeviceSelector:
    """Disks by what they are instead of by path; every condition that is set must hold."""

    min_size: Bytes | None = None
    max_size: Bytes | None = None
    rotational: bool | None = None
    model: str | None = None
    """A shell pattern over the disk's model string."""


@dataclass(frozen=True)
class Autoextend:
    """Growth of the pool by use, for data and for metadata."""

    threshold: int = 80
    """Percent used at which the pool is extended; 100 switches extension off."""
    percent: int = 20
    """Percent of the present size that is added."""


@dataclass(frozen=True)
class LoopSize:
    """The sparse files of loop-lvm."""

    data_size: Bytes = Bytes(100 * GIB)
    metadata_size: Bytes = Bytes(2 * GIB)


@dataclass(frozen=True)
class PoolSpec:
    """One pool as it is wanted."""

    name: str
    mode: Mode = Mode.DIRECT
    devices: tuple[str, ...] = ()
    """Paths or globs, absolute; for direct-lvm only."""
    selector: DeviceSelector | None = None
    force: bool = False
    thinp_percent: float = 95.0
    thinp_meta_percent: float = 1.0
    autoextend: Autoextend = field(default_factory=Autoextend)
    block_size: Bytes = BLOCK_SIZE_STEP
    min_free_space_percent: int = 10
    default_volume_size: Bytes = Bytes(10 * GIB)
    loop: LoopSize = field(default_factory=LoopSize)
    overprovision_ratio: float = 3.0
    when_full: WhenFull = WhenFull.WAIT
    trim: Trim = Trim.DAILY
    templates: bool = True
    """Whether new volumes begin as a copy of the fresh file system of one like them."""
    adopt: frozenset[PoolId] = frozenset()


EMBEDDED: Final = PoolSpec(name="default", mode=Mode.LOOP)
"""The pool of a node that was given neither a file nor a cluster."""


def load_pools(path: Path) -> tuple[PoolSpec, ...]:
    """Read a pools file: YAML with one key, ``pools``, a list of pools.

    Raise InvalidRequestError, with the place in the file, for anything that is not exactly that.
    """
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise InvalidRequestError(
            "read pools file", str(path), error.strerror or "cannot read", errno=error.errno or 0
        ) from error
    if len(raw) > _MAX_FILE:
        raise InvalidRequestError("read pools file", str(path), "larger than 1 MiB")
    try:
        document = read_yaml(raw)
    except ValueError as error:
        raise InvalidRequestError("read pools file", str(path), str(error)) from error
    return parse_pools(document, str(path))


def read_yaml(text: str | bytes) -> Any:  # noqa: ANN401 - whatever it says
    """Return what a YAML document holds. Raise ValueError if it cannot be read."""
    # Only here: a node of a cluster reads none.
    import yaml  # noqa: PLC0415

    try:
        return yaml.safe_load(text)
    # Of values that it cannot make (2001-99-99, !!int '', a nesting too deep), PyYAML lets any of these out.
    except (yaml.YAMLError, ArithmeticError, AttributeError, LookupError, RecursionError, ValueError) as error:
        message = f"not YAML: {error}"
        raise ValueError(message) from error


def parse_pools(document: object, source: str) -> tuple[PoolSpec, ...]:
    """Check a pools document and return its pools. ``source`` names it in errors (InvalidRequestError)."""
    top = _Section(document, source, "")
    entries = top.take("pools", list, None)
    top.finish()
    if not entries:
        raise top.error("pools", "must list at least one pool")
    pools = tuple(_parse_pool(_Section(entry, source, f"pools[{place}]")) for place, entry in enumerate(entries))
    names = [pool.name for pool in pools]
    for name in names:
        if names.count(name) > 1:
            raise top.error("pools", f"the name {name!r} is used twice")
    return pools


def _parse_pool(section: "_Section") -> PoolSpec:
    name = section.take("name", str, "")
    if not _NAME.fullmatch(name):
        raise section.error("name", f"{_shown(name)} is not a name (a-z, 0-9 and -, at most 63 characters)")
    mode = section.choice("mode", Mode, Mode.DIRECT)
    devices, selector = _parse_devices(section)
    if mode is Mode.LOOP:
        for misplaced in ("devices", "force", "thinpPercent", "thinpMetaPercent"):
            if section.has(misplaced):
                raise section.error(misplaced, "belongs to direct-lvm; a loop-lvm pool has its sizes in 'loop'")
    else:
        if section.has("loop"):
            raise section.error("loop", "belongs to loop-lvm")
        if not devices and selector is None:
            raise section.error("devices", "direct-lvm needs disks: a list of paths or globs, or a selection by size")
    spec = PoolSpec(
        name=name,
        mode=mode,
        devices=devices,
        selector=selector,
        force=section.take("force", bool, default=False),
        thinp_percent=section.number("thinpPercent", 95, 1, 99.5),
        thinp_meta_percent=section.number("thinpMetaPercent", 1, 0.01, 50),
        autoextend=_parse_autoextend(section.sub("autoextend")),
        block_size=section.size("blockSize", BLOCK_SIZE_STEP, BLOCK_SIZE_STEP, GIB),
        min_free_space_percent=section.whole("minFreeSpacePercent", 10, 0, 90),
        default_volume_size=section.size("defaultVolumeSize", Bytes(10 * GIB), MIB, Bytes(1 << 50)),
        loop=_parse_loop(section.sub("loop")),
        overprovision_ratio=section.number("overprovisionRatio", 3, 0.1, 1000),
        when_full=section.choice("whenFull", WhenFull, WhenFull.WAIT),
        trim=section.choice("trim", Trim, Trim.DAILY),
        templates=section.take("templates", bool, default=True),
        adopt=_parse_adopt(section),
    )
    section.finish()
    if spec.block_size % BLOCK_SIZE_STEP:
        raise section.error("blockSize", "must be a multiple of 64Ki")
    if spec.thinp_percent + 2 * spec.thinp_meta_percent > 100:  # noqa: PLR2004 - percent
        # Twice: LVM keeps a spare as large as the metadata in every VG with a pool.
        raise section.error("thinpPercent", "with twice thinpMetaPercent (metadata and its spare) exceeds 100")
    return spec


def _parse_devices(section: "_Section") -> tuple[tuple[str, ...], DeviceSelector | None]:
    if not isinstance(section.peek("devices"), Mapping):
        paths = section.take("devices", list, [])
        for path in paths:
            if not isinstance(path, str) or not path.startswith("/") or "\0" in path or ".." in path.split("/"):
                raise section.error("devices", f"{_shown(path)} is not an absolute path")
        return tuple(paths), None
    selection = section.sub("devices")
    selector = DeviceSelector(
        min_size=selection.size("minSize", None, Bytes(0), None),
        max_size=selection.size("maxSize", None, Bytes(0), None),
        rotational=selection.take("rotational", bool, None),
        model=selection.take("model", str, None),
    )
    selection.finish()
    if selector == DeviceSelector():
        raise section.error("devices", "an empty selection would take every disk; name at least one condition")
    return (), selector


def _parse_autoextend(section: "_Section") -> Autoextend:
    extend = Autoextend(section.whole("threshold", 80, 50, 100), section.whole("percent", 20, 1, 100))
    section.finish()
    return extend


def _parse_loop(section: "_Section") -> LoopSize:
    loop = LoopSize(
        section.size("dataSize", Bytes(100 * GIB), Bytes(256 * MIB), Bytes(1 << 50)),
        section.size("metadataSize", Bytes(2 * GIB), Bytes(256 * MIB), Bytes(16 * GIB)),
    )
    section.finish()
    return loop


def _parse_adopt(section: "_Section") -> frozenset[PoolId]:
    ids = section.take("adopt", list, [])
    for text in ids:
        if not isinstance(text, str) or not is_pool_id(text):
            raise section.error("adopt", f"{_shown(text)} is not a pool id")
    return frozenset(PoolId(text) for text in ids)


_Choice = TypeVar("_Choice", bound=enum.StrEnum)


class _Section:
    """One mapping of the file: hands out its fields and knows which were never asked for."""

    def __init__(self, value: object, source: str, place: str) -> None:
        self._source = source
        self._place = place
        if not isinstance(value, Mapping) or any(not isinstance(key, str) for key in value):
            raise self.error("", "must be a mapping with names as keys")
        self._fields: Mapping[str, Any] = value
        self._taken: set[str] = set()

    def error(self, key: str, why: str) -> InvalidRequestError:
        place = ".".join(part for part in (self._place, key) if part)
        return InvalidRequestError("read pools file", self._source, f"{place or 'the document'}: {why}")

    def has(self, key: str) -> bool:
        return key in self._fields

    def peek(self, key: str) -> object:
        return self._fields.get(key)

    def take(self, key: str, kind: type, default: Any) -> Any:  # noqa: ANN401 - the kind is checked here
        self._taken.add(key)
        value = self._fields.get(key)
        if value is None:
            if key in self._fields:
                raise self.error(key, "is empty")
            return default
        if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
            raise self.error(key, f"must be {_KINDS[kind]}, not {_shown(value)}")
        return value

    def sub(self, key: str) -> "_Section":
        place = ".".join(part for part in (self._place, key) if part)
        return _Section(self.take(key, dict, {}), self._source, place)

    def choice(self, key: str, kind: type[_Choice], default: _Choice) -> _Choice:
        text = self.take(key, str, default.value)
        try:
            return kind(text)
        except ValueError:
            raise self.error(key, f"must be one of {', '.join(kind)}, not {_shown(text)}") from None

    def number(self, key: str, default: float, low: float, high: float) -> float:
        value = self.take(key, (int, float), default)  # type: ignore[arg-type]
        if not low <= value <= high:
            raise self.error(key, f"must lie between {low:g} and {high:g}, not {_shown(value)}")
        return float(value)

    def whole(self, key: str, default: int, low: int, high: int) -> int:
        value = self.take(key, int, default)
        if not low <= value <= high:
            raise self.error(key, f"must lie between {low} and {high}, not {_shown(value)}")
        return int(value)

    def size(self, key: str, default: Bytes | None, low: Bytes, high: Bytes | None) -> Any:  # noqa: ANN401
        value = self.take(key, (str, int), default)  # type: ignore[arg-type]
        if value is None:
            return None
        try:
            size = parse_size(value)
        except ValueError as error:
            raise self.error(key, str(error)) from None
        if size < low or (high is not None and size > high):
            raise self.error(key, f"{_shown(value)} is out of bounds")
        return size

    def finish(self) -> None:
        unknown = sorted(set(self._fields) - self._taken)
        if unknown:
            raise self.error(unknown[0], f"unknown field (known: {', '.join(sorted(self._taken))})")


_REPR: Final = reprlib.Repr()
_REPR.maxstring = _REPR.maxother = 80


def _shown(value: object) -> str:
    """Return a value as it may stand in a message: cut, however large and deep it is."""
    try:
        return _REPR.repr(value)
    except ValueError:  # sys.set_int_max_str_digits
        return "a number of thousands of digits"


_KINDS: Final[dict[Any, str]] = {
    str: "text",
    int: "a whole number",
    bool: "true or false",
    list: "a list",
    dict: "a mapping",
    (int, float): "a number",
    (str, int): "a size",
}
