"""What the volumes layer tells: capacity, health, and the figures of pools and volumes."""

import enum
from dataclasses import dataclass, field

from csi.model import Device, Handle, PoolId
from csi.units import Blocks, Bytes


@dataclass(frozen=True)
class Capacity:
    """What could still be created in a pool, in virtual bytes."""

    available: Bytes
    maximum: Bytes
    """The largest single volume."""
    minimum: Bytes


class Severity(enum.StrEnum):
    """How bad a condition is for the data (CSI 1.13 ``VolumeHealthErrorType``)."""

    INFO = "info"
    """Nothing is wrong; a person should know it."""
    DEGRADED = "degraded"
    INACCESSIBLE = "inaccessible"
    DATA_LOSS = "data-loss"


@dataclass(frozen=True)
class Condition:
    """Something that is not as it should be, and what to do about it."""

    reason: str
    """In CamelCase, fit for a machine: PoolFull, NeedsRepair, DeviceMissing, …"""
    message: str
    severity: Severity


@dataclass(frozen=True)
class PoolReport:
    """One pool in the terms of ``docker info``."""

    pool: str
    """The wanted pool's name."""
    pool_id: PoolId | None
    """None while the pool could not be opened."""
    mode: str
    pool_name: str
    """The thin pool's device-mapper name."""
    block_size: Bytes
    default_volume_size: Bytes
    backing_filesystem: str
    """The file system under the loop files; '' in direct-lvm."""
    udev_sync: bool
    devices: tuple[str, ...]
    data_file: str
    metadata_file: str
    data_loop_file: str
    metadata_loop_file: str
    data_used: Bytes
    data_total: Bytes
    metadata_used: Bytes
    metadata_total: Bytes
    extendable: Bytes
    """What the VG still has for the data to be extended into."""
    min_free: Bytes
    """Below this much free space no new volume or snapshot is made."""
    overprovision_ratio: float
    virtual_total: Bytes
    """The sizes of all volumes together."""
    when_full: str
    trim: str
    mode_kernel: str
    """rw, ro, out_of_data_space or fail, as the kernel says."""
    transaction_id: int
    ids_left: int
    """Thin ids that can still be handed out in this pool's life."""
    ballast: Bytes
    volumes: int
    snapshots: int
    templates: int
    """Fresh file systems that new volumes begin as."""
    deferred_deletions: int
    quarantined: int
    conditions: tuple[Condition, ...] = ()


@dataclass(frozen=True)
class NodeReport:
    """The node as ``thinpool-csi info`` shows it."""

    node: str
    version: str
    library_version: str
    """The device-mapper interface of the kernel, as major.minor.patch."""
    target_versions: dict[str, str]
    """Versions of the thin-pool and thin targets."""
    deferred_removal: bool
    deferred_deletion: bool
    pools: tuple[PoolReport, ...]


@dataclass(frozen=True)
class Listing:
    """One volume or snapshot with what it really takes."""

    device: Device
    pool: str
    mapped: Bytes | None
    """None when the pool's metadata could not be read."""
    exclusive: Bytes | None
    """What would come back if it were deleted now."""
    active: bool


@dataclass(frozen=True)
class Finding:
    """One disagreement between the catalog and the pool."""

    pool: str
    subject: str
    message: str
    handle: Handle | None = None


@dataclass(frozen=True)
class CheckReport:
    """What ``thinpool-csi check`` found."""

    pools: int
    devices: int
    findings: tuple[Finding, ...] = ()
    thin_check: dict[str, str] = field(default_factory=dict)
    """Per pool: ok, needs-check, or what thin_check said."""


@dataclass(frozen=True)
class PoolSpace:
    """A pool's space at one look."""

    data_used: Blocks
    data_total: Blocks
    extendable: Blocks
    metadata_used: int
    metadata_total: int
    metadata_extendable: int
