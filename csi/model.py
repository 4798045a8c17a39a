"""What the driver talks about: pools, handles, volumes, snapshots, groups, and the states they go through."""

import base64
import enum
import re
import secrets
from dataclasses import dataclass
from typing import Final, NewType, Self

from csi.units import Bytes

DRIVER: Final = "thinpool-csi.dev"
TOPOLOGY_KEY: Final = "topology.thinpool-csi.dev/node"

PoolId = NewType("PoolId", str)
ThinId = NewType("ThinId", int)
GroupId = NewType("GroupId", int)

THIN_ID_LIMIT: Final = 1 << 24
"""Thin ids are 24 bits wide (drivers/md/dm-thin.c, ``MAX_DEV_ID``)."""

SENTINEL: Final = ThinId(0)
"""The thin device that holds a pool and its ballast; never a volume."""

_POOL_ID: Final = re.compile(r"[a-z2-7]{10}")
_HANDLE: Final = re.compile(r"([a-z2-7]{10})-([0-9a-f]{8})")
_GROUP_HANDLE: Final = re.compile(r"([a-z2-7]{10})-g([0-9a-f]{8})")


def new_pool_id() -> PoolId:
    """Return a fresh pool id: ten random base32 characters in lower case (50 bits)."""
    return PoolId(base64.b32encode(secrets.token_bytes(7)).decode().lower()[:10])


def is_pool_id(text: str) -> bool:
    """Tell whether ``text`` has the form of a pool id."""
    return _POOL_ID.fullmatch(text) is not None


@dataclass(frozen=True, order=True)
class Handle:
    """What CSI calls a volume id or a snapshot id: the pool and the thin id in it."""

    pool: PoolId
    thin: ThinId

    def __str__(self) -> str:
        """``<pool id>-<thin id as 8 hex digits>``."""
        return f"{self.pool}-{self.thin:08x}"

    @property
    def device(self) -> str:
        """The device-mapper name of the volume's device."""
        return f"thinpool-{self.pool}-{self.thin}"

    @property
    def uuid(self) -> str:
        """The device-mapper UUID of the volume's device."""
        return f"THINPOOL-{self.pool}-{self.thin}"

    @classmethod
    def parse(cls, text: str) -> Self | None:
        """Read a handle; None for anything that this driver cannot have given out."""
        match = _HANDLE.fullmatch(text)
        if match is None:
            return None
        thin = int(match[2], 16)
        return cls(PoolId(match[1]), ThinId(thin)) if SENTINEL < thin < THIN_ID_LIMIT else None


@dataclass(frozen=True, order=True)
class GroupHandle:
    """The id of a group snapshot: the pool and the group's number in it."""

    pool: PoolId
    group: GroupId

    def __str__(self) -> str:
        """``<pool id>-g<8 hex digits>``."""
        return f"{self.pool}-g{self.group:08x}"

    @classmethod
    def parse(cls, text: str) -> Self | None:
        """Read a group handle; None for anything that this driver cannot have given out."""
        match = _GROUP_HANDLE.fullmatch(text)
        return cls(PoolId(match[1]), GroupId(int(match[2], 16))) if match else None


class Kind(enum.StrEnum):
    """What a thin device is for."""

    VOLUME = "volume"
    SNAPSHOT = "snapshot"
    TEMPLATE = "template"
    """A fresh file system that new volumes of its shape begin as; nobody's data, never listed nor handed out."""
    QUARANTINED = "quarantined"
    """Found in the pool but unknown to the catalog: kept, named, never handed out."""


class State(enum.StrEnum):
    """How far a thin device's life has come in the catalog."""

    CREATING = "creating"
    """Intent: the device is to be made, blank or of an origin at rest; found in the pool, it is whole."""
    CUTTING = "cutting"
    """Intent: the device is to be cut from an origin in use. Found in the pool, its point in time is not known."""
    READY = "ready"
    DELETING = "deleting"
    """Answered as deleted: its space is still being given back."""
    LOST = "lost"
    """The catalog knows it, the pool has it no longer: lost data, named as such."""


class FsState(enum.StrEnum):
    """What is known of the file system on a volume (design: never format data)."""

    NONE = "none"
    """A raw block volume so far."""
    UNFORMATTED = "unformatted"
    FORMATTING = "formatting"
    """mkfs was begun; the volume was never published, so what is on it is nobody's."""
    FORMATTED = "formatted"
    FRESH = "fresh"
    """A template's, never mounted."""
    UNKNOWN = "unknown"
    """After the catalog was rebuilt: what is there is used, nothing is ever formatted."""


class FsType(enum.StrEnum):
    """The file systems that can be asked for."""

    EXT4 = "ext4"
    XFS = "xfs"
    BTRFS = "btrfs"


@dataclass(frozen=True)
class Device:
    """One thin device as the catalog knows it: a volume, a snapshot, or a stranger in quarantine."""

    handle: Handle
    kind: Kind
    state: State
    name: str | None
    """The name given by the caller, by which a repeated request is recognised; None once deletion was answered."""
    size: Bytes
    """The virtual size. The pool stores none; this is the only record."""
    origin: ThinId | None
    """What it was cut from; for a snapshot its source volume. The origin may be gone."""
    content_source: str
    """The handle of the snapshot or volume that a volume was made from, for CSI's answers; '' for a blank one."""
    group: GroupId | None
    fs_state: FsState
    fs_type: FsType | None
    """The file system that is on it or was asked for; None for raw block."""
    fs_unique: bool
    """Whether the file system's UUID is its own; False for a copy until its first stage (btrfs)."""
    mkfs_profile: str
    ephemeral: bool
    created: int
    """Nanoseconds since the epoch; for a snapshot its point in time."""


@dataclass(frozen=True)
class Claim:
    """What an object of the cluster says of a volume or a snapshot; of another kind there is none."""

    handle: Handle
    kind: Kind
    name: str | None
    """The name it was made by; None where the object does not tell."""
    size: Bytes
    fs_type: FsType | None = None
    """None for raw block, and for every snapshot: there it is not told."""
    source: Handle | None = None
    """The volume that a snapshot was cut from."""
    group: GroupId | None = None
    created: int = 0
    """Nanoseconds since the epoch; 0 if it is not told."""


@dataclass(frozen=True)
class Group:
    """A group snapshot: every member was cut at one point in time."""

    handle: GroupHandle
    name: str
    created: int
    """Nanoseconds since the epoch."""
    members: tuple[Device, ...]
