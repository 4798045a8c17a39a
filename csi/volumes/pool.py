"""A pool that is served: its parts, its locks, and the few steps that every operation on it shares."""

import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from csi.catalog.row import Draft
from csi.catalog.store import Catalog
from csi.dm.freezer import Freezer
from csi.dm.ioctl import Control
from csi.dm.targets import PoolMode, ThinPoolStatus
from csi.dm.thin_device import ThinDevice, ours
from csi.dm.thin_pool import ThinPool
from csi.errors import DiskHangsError, DriverError, NoSpaceError, NotFoundError, StateError, UnavailableError
from csi.fs.paths import Root
from csi.lvm.pool_group import PoolGroup
from csi.model import SENTINEL, Device, GroupHandle, Handle, Kind, PoolId, ThinId
from csi.settings import PoolSpec
from csi.units import MIB, Blocks, Bytes, block_bytes, blocks_up
from csi.volumes.combiner import Combiner
from csi.volumes.locks import Claims, Turns
from csi.volumes.pulse import Pulse, read_first
from csi.volumes.reports import PoolSpace
from csi.volumes.templates import Templates

# Longer than any freeze (2 s) many times over: 50 clones of one mounted volume wait for each other here.
PATIENCE: Final = 20.0

METADATA_BLOCK: Final = 4096
"""drivers/md/dm-thin-metadata.h, ``THIN_METADATA_BLOCK_SIZE``, in bytes."""

# A freeze flushes what the file system still holds; a pool without this much room does not begin one.
_FREEZE_ROOM: Final = Bytes(64 * MIB)

_LEAVING: Final = 16
"""Deletions that may wait at once: a burst of them leaves threads for everybody else."""

REBUILD: Final = "volumes that are known go on; run 'thinpool-csi check', read it, then 'thinpool-csi check --rebuild'"
"""The way out where catalog and pool disagree."""


ENDING: Final = "it is being removed from its disks"
"""Why a pool takes no changes at its end."""

LOOK_FOR_DISK: Final = "look at the kernel's log and the disks; all goes on when they answer"
"""The way out where a disk hangs."""


@dataclass
class Guard:
    """Why the pool takes no changes, if so."""

    why: str = ""
    way_out: str = ""
    missing: frozenset[ThinId] = frozenset()
    """Thin devices that the catalog knows and the pool does not have."""
    unknown: frozenset[ThinId] = frozenset()
    """Thin devices that the pool has and the catalog does not know."""


@dataclass
class Pool:
    """One open pool. The operations on it are functions of the other modules of this package."""

    spec: PoolSpec
    id: PoolId
    group: PoolGroup
    thin: ThinPool
    catalog: Catalog
    catalog_dir: Path
    control: Control
    freezer: Freezer
    root: Root
    """The directory below which volumes are mounted: the kubelet's."""
    number: str
    """The thin pool's ``major:minor``, by which the tables of thin devices name it."""
    block_size: Bytes
    kernel_ceiling: int
    """The transaction id that the kernel's superblock has: ids below it are reserved."""
    guard: Guard = field(default_factory=Guard)
    ending: bool = False
    """Nothing new is let in, for it is to be removed from its disks."""
    claims: Claims = field(default_factory=Claims)
    turns: Turns = field(default_factory=Turns)
    templates: Templates = field(default_factory=Templates)
    making: Combiner[Draft, Device] = field(default_factory=Combiner)
    """Devices that are made without a freeze, those that are asked for at the same time together."""
    freezing: threading.Lock = field(default_factory=threading.Lock)
    """Held by a freeze and by an extension, which must never meet."""
    leaving: threading.BoundedSemaphore = field(default_factory=lambda: threading.BoundedSemaphore(_LEAVING))
    """Held by each deletion that waits for its volume to be unstaged."""
    reclaim_wanted: threading.Event = field(default_factory=threading.Event)
    emptying: set[ThinId] = field(default_factory=set)
    """Deleted devices that may be emptied: that it comes to that is recorded, and the kernel's number raised."""
    reclaim_trouble: dict[ThinId, str] = field(default_factory=dict)
    """Devices whose space could not be given back yet, and why."""
    held: ExitStack = field(default_factory=ExitStack)
    """The locks and files that are let go when the pool is closed."""
    _raising: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        self.pulse = Pulse(self._look)

    def _look(self) -> None:
        """Touch what every operation needs; it returns late, or never, where that would hang."""
        for path in self.group.devices:
            read_first(path)
        self.thin.status()
        self.catalog.touch()

    def hanging(self) -> str:
        """Say that the pool does not answer; '' if it does."""
        seconds = self.pulse.hangs()
        return f"it has not answered for {seconds:.0f} s: a disk hangs" if seconds else ""

    def require_answering(self, operation: str, subject: str) -> None:
        """Raise DiskHangsError while whoever touches the pool would be stuck."""
        if why := self.hanging():
            raise DiskHangsError(operation, subject, f"pool {self.spec.name}: {why}", way_out=LOOK_FOR_DISK)

    def follow(self, spec: PoolSpec) -> None:
        """Serve with the changed fields of ``spec`` from now on; what of them LVM must know, the monitor tells it."""
        self.spec = self.group.spec = spec
        # They may be switched off.
        self.reclaim_wanted.set()

    def device(self, thin: ThinId) -> ThinDevice:
        """Return the thin device with this id, active or not."""
        return ThinDevice(self.control, Handle(self.id, thin))

    def cover(self, ceiling: int) -> None:
        """See that the kernel's transaction id is at least ``ceiling``, which the catalog has recorded."""
        if self.kernel_ceiling >= ceiling:
            return
        with self._raising:
            # Read again: an attempt that was answered with an error may have raised it all the same.
            number = self.thin.status().transaction_id
            if number < ceiling:
                self.thin.set_transaction_id(number, ceiling)
            self.kernel_ceiling = max(number, ceiling)

    def cover_recorded(self) -> None:
        """See that the kernel has the catalog's ceiling, where an earlier attempt failed between recording and raising.

        Nothing that was recorded may be handed out before: a catalog from before it would pass for the present one.
        """
        if not self.guard.why:
            ceiling, _ = self.catalog.ceiling()
            self.cover(ceiling)

    def require_open(self, operation: str, subject: str) -> None:
        """Raise UnavailableError while the catalog and the pool disagree."""
        if self.guard.why:
            raise UnavailableError(operation, subject, self.guard.why, way_out=self.guard.way_out)

    def empty(self) -> bool:
        """Tell whether the catalog knows nothing but templates in it, what waits for its deletion included."""
        counts = self.catalog.counts()
        return not (counts.volumes or counts.snapshots or counts.deleting or counts.quarantined)

    def not_found(self, operation: str, subject: Handle | GroupHandle, what: str) -> DriverError:
        """Return the error for something that the catalog does not know as ``what``.

        While the catalog is behind, what it does not know may well be there: nobody may take it for gone.
        """
        if self.guard.why:
            return UnavailableError(
                operation, str(subject), f"no such {what} is known, but {self.guard.why}", way_out=self.guard.way_out
            )
        device = self.catalog.device(subject.thin) if isinstance(subject, Handle) else None
        if device is not None and device.kind is Kind.QUARANTINED:
            return StateError(
                operation,
                str(subject),
                "it is in quarantine: the catalog does not know what it is",
                way_out="see the guide",
            )
        return NotFoundError(operation, str(subject), f"no such {what}")

    def healthy_status(self, operation: str, subject: str, *, full_ok: bool = False) -> ThinPoolStatus:
        """Return the pool's status. Raise UnavailableError unless it can be changed, NoSpaceError when it is full.

        ``full_ok`` is for what frees space.
        """
        status = self.thin.status()
        if status.needs_check:
            raise UnavailableError(
                operation,
                subject,
                f"pool {self.spec.name} needs a check of its metadata",
                way_out=f"end what uses it, stop the node and run 'thinpool-csi repair --pool {self.spec.name}'",
            )
        if status.mode is PoolMode.OUT_OF_DATA_SPACE:
            if full_ok:
                return status
            raise NoSpaceError(
                operation, subject, f"pool {self.spec.name} is full", way_out="add a disk to it or delete volumes"
            )
        if status.mode is not PoolMode.READ_WRITE:
            raise UnavailableError(
                operation,
                subject,
                f"pool {self.spec.name} is in mode {status.mode}",
                way_out="look at 'thinpool-csi info'; its metadata may be full or damaged",
            )
        return status

    def space(self, status: ThinPoolStatus | None = None) -> PoolSpace:
        """Return what is used, what there is, and what the VG still has to extend into."""
        now = status or self.thin.status()
        return PoolSpace(
            data_used=now.data_used,
            data_total=now.data_total,
            extendable=Blocks(self.group.room.data // self.block_size),
            metadata_used=now.metadata_used,
            metadata_total=now.metadata_total,
            metadata_extendable=self.group.room.metadata // METADATA_BLOCK,
        )

    def require_no_volumes_active(self) -> None:
        """Raise StateError while a volume's device is active."""
        busy = [info.name for info in ours(self.control, self.id) if info.name != Handle(self.id, SENTINEL).device]
        if busy:
            raise StateError(
                "deactivate pool", self.spec.name, f"{len(busy)} volumes are active ({busy[0]})", way_out="unstage them"
            )

    def require_freezable(self, operation: str) -> None:
        """See that the pool takes what a file system writes out when it is frozen.

        Raise NoSpaceError, UnavailableError otherwise: there the flush, and all that waits behind it, would hang.
        """
        status = self.healthy_status(operation, self.spec.name)
        if block_bytes(Blocks(status.data_total - status.data_used), self.block_size) < _FREEZE_ROOM:
            needed = blocks_up(_FREEZE_ROOM, self.block_size)
            raise NoSpaceError(
                operation,
                self.spec.name,
                f"{status.data_total - status.data_used} free blocks are too few to freeze a volume on ({needed})",
                way_out="add a disk to the pool or delete volumes",
            )

    @contextmanager
    def frozen(self, operation: str, devices: Sequence[ThinDevice]) -> Iterator[None]:
        """Hold the active ones of ``devices`` suspended: no write reaches them, mounted file systems are consistent.

        Nothing is suspended on a pool that is full or cannot be changed, for there the suspend itself would hang.
        Raise BusyError when a device is frozen by somebody else or the freeze did not hold to the end.
        """
        active = [device for device in devices if is_live(device)]
        if not active:
            yield
            return
        if not self.freezing.acquire(timeout=PATIENCE):
            raise UnavailableError(
                operation, self.spec.name, "the pool is being extended", way_out="send it again later"
            )
        try:
            self.require_freezable(operation)
            with self.freezer.frozen(active):
                yield
        finally:
            self.freezing.release()


def is_live(device: ThinDevice) -> bool:
    """Tell whether the device can have I/O: one that a crash left without a table cannot."""
    info = device.info()
    return info is not None and info.has_live_table
