"""Rows of the catalog as values."""

from dataclasses import dataclass
from typing import Final

from csi.model import Device, FsState, FsType, GroupId, Handle, Kind, PoolId, State, ThinId
from csi.units import Bytes

COLUMNS: Final = (
    "thin_id, kind, state, name, size, origin, content_source, group_id,"
    " fs_state, fs_type, fs_unique, mkfs_profile, ephemeral, created"
)


@dataclass(frozen=True)
class Counts:
    """What the catalog holds, kept by triggers."""

    volumes: int
    snapshots: int
    deleting: int
    quarantined: int
    virtual: Bytes
    """The sizes of all volumes together."""


@dataclass(frozen=True)
class Draft:
    """A device that is about to be made: what the caller knows before there is a thin id."""

    kind: Kind
    state: State
    name: str | None
    """None for a member of a group, which is known by the group's name."""
    size: Bytes
    origin: ThinId | None = None
    content_source: str = ""
    fs_state: FsState = FsState.NONE
    fs_type: FsType | None = None
    fs_unique: bool = True
    mkfs_profile: str = "auto"
    ephemeral: bool = False


def parse(pool: PoolId, row: tuple[object, ...]) -> Device:
    """Return the device of a row of COLUMNS."""
    (thin, kind, state, name, size, origin, source, group, fs_state, fs_type, unique, profile, ephemeral, made) = row
    return Device(
        handle=Handle(pool, ThinId(int(str(thin)))),
        kind=Kind(str(kind)),
        state=State(str(state)),
        name=None if name is None else str(name),
        size=Bytes(int(str(size))),
        origin=None if origin is None else ThinId(int(str(origin))),
        content_source=str(source),
        group=None if group is None else GroupId(int(str(group))),
        fs_state=FsState(str(fs_state)),
        fs_type=None if fs_type is None else FsType(str(fs_type)),
        fs_unique=bool(unique),
        mkfs_profile=str(profile),
        ephemeral=bool(ephemeral),
        created=int(str(made)),
    )
