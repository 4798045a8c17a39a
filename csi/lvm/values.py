"""Physical volumes, volume groups and logical volumes as LVM reports them (lvmreport(7))."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from csi.units import Bytes


@dataclass(frozen=True)
class PhysicalVolume:
    """A disk of a volume group, or one prepared for LVM that is in no group (``in_use`` False)."""

    name: str
    """The kernel's name as LVM chose it; ``[unknown]`` for a missing one."""
    uuid: str
    number: str
    """``major:minor``."""
    size: Bytes
    free: Bytes
    missing: bool
    in_use: bool
    """LVM's own mark that the disk belongs to a group, also where the group's metadata cannot be seen."""

    @classmethod
    def parse(cls, row: Mapping[str, Any]) -> Self:
        """Read one row of a ``pv`` report."""
        return cls(
            name=_text(row, "pv_name"),
            uuid=_text(row, "pv_uuid"),
            number=f"{_text(row, 'pv_major')}:{_text(row, 'pv_minor')}",
            size=_size(row, "pv_size"),
            free=_size(row, "pv_free"),
            missing=_text(row, "pv_missing") != "",
            in_use=_text(row, "pv_in_use") != "",
        )


@dataclass(frozen=True)
class LogicalVolume:
    """A logical volume, hidden ones (``pool_tmeta``) included."""

    name: str
    uuid: str
    size: Bytes
    tags: frozenset[str]
    layout: frozenset[str]
    """``linear``; ``thin`` and ``pool``; …"""
    active: bool
    minor: int
    """Of ``/dev/dm-<minor>``; -1 while not active."""
    health: str
    """'' or what is wrong with an active pool: ``failed``, ``out_of_data``, ``metadata_read_only``."""
    check_needed: bool
    when_full: str
    """``queue`` or ``error`` for a thin pool."""
    chunk_size: Bytes
    """The block size of a thin pool; 0 for others."""

    @classmethod
    def parse(cls, row: Mapping[str, Any], chunk_size: Bytes) -> Self:
        """Read one row of an ``lv`` report; the chunk size stands in the ``seg`` report."""
        return cls(
            name=_text(row, "lv_name"),
            uuid=_text(row, "lv_uuid"),
            size=_size(row, "lv_size"),
            tags=_set(row, "lv_tags"),
            layout=_set(row, "lv_layout"),
            active=_text(row, "lv_active") == "active",
            minor=_number(row, "lv_kernel_minor"),
            health=_text(row, "lv_health_status"),
            check_needed=_text(row, "lv_check_needed") == "check needed",
            when_full=_text(row, "lv_when_full"),
            chunk_size=chunk_size,
        )

    @property
    def is_thin_pool(self) -> bool:
        """Whether this is a thin pool (its two hidden parts are not)."""
        return {"thin", "pool"} <= self.layout


@dataclass(frozen=True)
class VolumeGroup:
    """A volume group with all that is in it."""

    name: str
    uuid: str
    system_id: str
    """'' for a group without an owner."""
    tags: frozenset[str]
    extent_size: Bytes
    size: Bytes
    """All extents together."""
    free: Bytes
    missing: int
    """How many of its disks are not there."""
    disks: tuple[PhysicalVolume, ...]
    volumes: Mapping[str, LogicalVolume] = field(hash=False)
    """By name."""

    def tag(self, key: str) -> str:
        """Return the value of the tag ``key=value``; '' where there is none."""
        return next((tag.partition("=")[2] for tag in sorted(self.tags) if tag.startswith(f"{key}=")), "")


@dataclass(frozen=True)
class Report:
    """Everything that LVM knows of the disks it was shown."""

    groups: tuple[VolumeGroup, ...]
    loose: tuple[PhysicalVolume, ...]
    """PVs in no group that can be seen."""


def parse_report(text: str) -> Report:
    """Read the output of ``lvm fullreport --reportformat json``, with the fields that the runner asks for.

    Raise ValueError for anything else.
    """
    groups = []
    loose: list[PhysicalVolume] = []
    try:
        for entry in json.loads(text)["report"]:
            disks = tuple(PhysicalVolume.parse(row) for row in entry.get("pv", ()))
            rows = entry.get("vg", ())
            if rows:
                groups.append(_group(rows[0], disks, entry))
            else:
                loose.extend(disks)
    except (KeyError, TypeError, AttributeError, IndexError, RecursionError) as error:
        message = f"not a report of LVM's: {error!r}"
        raise ValueError(message) from error
    return Report(tuple(groups), tuple(loose))


def parse_doubled(text: str) -> frozenset[str]:
    """Return the UUIDs that more than one disk shows, of ``lvm pvs --all``. Raise ValueError for anything else."""
    try:
        rows = [row for entry in json.loads(text)["report"] for row in entry["pv"]]
        return frozenset(_text(row, "pv_uuid") for row in rows if _text(row, "pv_duplicate"))
    except (KeyError, TypeError, AttributeError, RecursionError) as error:
        message = f"not a report of LVM's: {error!r}"
        raise ValueError(message) from error


def _group(row: Mapping[str, Any], disks: tuple[PhysicalVolume, ...], entry: Mapping[str, Any]) -> VolumeGroup:
    chunks = {_text(segment, "lv_uuid"): _size(segment, "chunk_size") for segment in entry.get("seg", ())}
    volumes = [LogicalVolume.parse(lv, chunks.get(_text(lv, "lv_uuid"), Bytes(0))) for lv in entry.get("lv", ())]
    extent_size = _size(row, "vg_extent_size")
    return VolumeGroup(
        name=_text(row, "vg_name"),
        uuid=_text(row, "vg_uuid"),
        system_id=_text(row, "vg_systemid"),
        tags=_set(row, "vg_tags"),
        extent_size=extent_size,
        size=Bytes(extent_size * _number(row, "vg_extent_count")),
        free=Bytes(extent_size * _number(row, "vg_free_count")),
        missing=_number(row, "vg_missing_pv_count"),
        disks=disks,
        volumes={volume.name: volume for volume in volumes},
    )


def _text(row: Mapping[str, Any], key: str) -> str:
    value = row[key]
    if not isinstance(value, str):
        message = f"{key} is {value!r}, not text"
        raise TypeError(message)
    return value


def _number(row: Mapping[str, Any], key: str) -> int:
    text = _text(row, key)
    try:
        return int(text) if text else 0
    except ValueError:
        message = f"{key} is {text!r}, not a number"
        raise ValueError(message) from None


def _size(row: Mapping[str, Any], key: str) -> Bytes:
    return Bytes(_number(row, key))


def _set(row: Mapping[str, Any], key: str) -> frozenset[str]:
    return frozenset(part for part in _text(row, key).split(",") if part)
