"""Rows of the catalog as values."""

from dataclasses import dataclass
from typing import Any, Final

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
    templates: int
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

    def device(self, handle: Handle, group: GroupId | None, created: int) -> Device:
        """Return it as the device ``handle``."""
        return Device(handle=handle, group=group, created=created, **vars(self))


def parse(pool: PoolId, row: tuple[Any, ...]) -> Device:
    """Return the device of a row of COLUMNS, whose types the table's STRICT sees to."""
    (thin, kind, state, name, size, origin, source, group, fs_state, fs_type, unique, profile, ephemeral, made) = row
    return Device(
        handle=Handle(pool, ThinId(thin)),
        kind=Kind(kind),
        state=State(state),
        name=name,
        size=Bytes(size),
        origin=None if origin is None else ThinId(origin),
        content_source=source,
        group=None if group is None else GroupId(group),
        fs_state=FsState(fs_state),
        fs_type=None if fs_type is None else FsType(fs_type),
        fs_unique=bool(unique),
        mkfs_profile=profile,
        ephemeral=bool(ephemeral),
        created=made,
    )
