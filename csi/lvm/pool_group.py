"""The volume group of a pool: found or made, activated, extended."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, Self

from csi.errors import (
    CommandError,
    DataLossError,
    KernelError,
    NeedsRepairError,
    NoSpaceError,
    PoolGoneError,
    StateError,
    UnavailableError,
)
from csi.lvm import creation, layout, names
from csi.lvm.disks import select
from csi.lvm.layout import Room
from csi.lvm.loop import LoopFile, LoopPair
from csi.lvm.metadata_swap import MetadataSwap
from csi.lvm.runner import LONG_DEADLINE, Lvm, system_id
from csi.lvm.search import check_disks, choose, present, take_over
from csi.lvm.values import LogicalVolume, VolumeGroup
from csi.model import PoolId, new_pool_id
from csi.settings import Mode, PoolSpec, WhenFull
from csi.units import Bytes, round_up

NO_SPACE_TIMEOUT: Final = Path("/sys/module/dm_thin_pool/parameters/no_space_timeout")
"""After how many seconds the kernel fails writes that wait for a full pool (drivers/md/dm-thin.c); 0: never."""


class PoolGroup:
    """One pool's volume group ``thinpool-<pool id>`` with the LVs ``pool`` (thin pool) and ``catalog`` (linear).

    Facts are as of the last command; ``refresh()`` reads them anew. Every method may raise CommandError (LVM failed or
    ran out of time). Not thread-safe: one thread at a time.
    """

    def __init__(
        self,
        spec: PoolSpec,
        lvm: Lvm,
        group: VolumeGroup,
        intent: creation.Intent,
        loop: LoopPair | None = None,
        refused: Mapping[str, str] | None = None,
    ) -> None:
        self.spec = spec
        self.refused: Mapping[str, str] = refused or {}
        """Disks that the pool's devices matched and that were left alone when it was made: path → reason."""
        self._lvm = lvm
        self._group = group
        self._intent = intent
        self._loop = loop

    @classmethod
    def find(cls, spec: PoolSpec, node_name: str, state_dir: Path, *, path: str | None = None) -> Self | None:
        """Return the pool made earlier for ``spec`` on its disks; None if there is none.

        A pool of another node whose id is in ``spec.adopt`` is taken over (its VG gets this node's system id). In
        loop-lvm existing files are attached to loop devices. ``path`` replaces the directories that programs are
        looked for in.

        Raise ForeignPoolError for a pool of another node that is not in ``adopt`` (its id is in the message);
        StateError for two pools of this name; UnavailableError if disks of the VG are missing.
        """
        loop = None
        if spec.mode is Mode.LOOP:
            loop = LoopPair.attach(_loop_directory(spec, state_dir), path=path)
            paths = list(loop.devices) if loop else []
        else:
            paths = select(spec)
        devices = present(paths)
        if not devices:
            return None
        lvm = Lvm(devices, system_id(node_name), threshold=spec.autoextend.threshold, path=path)
        group = choose(spec, lvm.system_id, lvm.report().groups)
        if group is None:
            return None
        # As many devices as the VG has disks: none can be there twice.
        check_disks(spec.name, group, lvm.doubled() if len(devices) > len(group.disks) else frozenset())
        own = Lvm(_devices(group), lvm.system_id, threshold=spec.autoextend.threshold, path=path)
        found = cls(spec, own, group, creation.Intent(state_dir, spec.name), loop)
        if take_over(spec, own, group):
            found.refresh()
        return found

    @classmethod
    def create(cls, spec: PoolSpec, node_name: str, state_dir: Path, *, path: str | None = None) -> Self:
        """Make the pool on blank disks (or new sparse files) and return it.

        Raise DevicesRefusedError (every refused disk with its reason; nothing was touched) and SizeError (disks
        too small).
        """
        loop = None
        if spec.mode is Mode.LOOP:
            loop = LoopPair.make(_loop_directory(spec, state_dir), spec.loop, path=path)
        paths = list(loop.devices) if loop else select(spec)
        ours = system_id(node_name)
        intent = creation.Intent(state_dir, spec.name)
        own_pvs = intent.load()
        seen = Lvm(present(paths), ours, path=path)
        disks, refused = creation.examine(paths, seen, force=spec.force, own_pvs=own_pvs)
        # A disk named by itself is meant; of a glob or a selection, what fits is taken.
        if not disks or any(named in refused for named in (*spec.devices, *(loop.devices if loop else ()))):
            raise creation.refused_error("create pool", spec.name, refused)
        # What LVM takes for itself from each disk is less than one extent; to be seen before anything is written.
        creation.sizes(spec, [Bytes(disk.size - layout.EXTENT) for disk in disks])
        devices = [disk.device for disk in disks]
        lvm = Lvm(devices, ours, threshold=spec.autoextend.threshold, path=path)
        creation.make_pvs(disks, lvm, intent, own_pvs)
        pool_id = new_pool_id()
        creation.make_vg(spec, pool_id, lvm, devices)
        made = next(group for group in lvm.report().groups if group.name == names.vg_name(pool_id))
        group = cls(spec, lvm, made, intent, loop, refused)
        group.finish()
        return group

    @classmethod
    def open(cls, spec: PoolSpec, node_name: str, state_dir: Path, *, known: str = "", path: str | None = None) -> Self:
        """Find the pool, finishing an interrupted creation, or create it. Not activated yet. Raises as both do.

        ``known`` is the id of the pool that was here, '' if none is known. Raise PoolGoneError if neither it is there
        nor one of ``adopt``: a blank disk in its place must not make its volumes be forgotten.
        """
        group = cls.find(spec, node_name, state_dir, path=path)
        if known and (group is None or (group.pool_id != known and group.pool_id not in spec.adopt)):
            why = f"pool {known} is not on its disks any more" + (f"; {group.pool_id} is" if group else "")
            raise PoolGoneError("open pool", spec.name, why, way_out="bring its disks back, or declare it lost")
        if group is None:
            return cls.create(spec, node_name, state_dir, path=path)
        if not group.complete:
            group.finish()
        return group

    def finish(self) -> None:
        """Finish an interrupted creation: make whatever is missing. Raise SizeError."""
        self._intent.clear()  # the VG speaks for itself now
        creation.make_lvs(self.spec, self._lvm, self._group, self._loop.devices if self._loop else ())
        self.refresh()

    @property
    def complete(self) -> bool:
        """Whether the pool's creation was finished; ``open()`` finishes it."""
        return names.TAG_CREATING not in self._group.tags

    @property
    def pool_id(self) -> PoolId:
        """The pool's id, fixed when it was made."""
        return PoolId(self._group.tag(names.TAG_ID))

    @property
    def vg_name(self) -> str:
        """``thinpool-<pool id>``."""
        return self._group.name

    @property
    def devices(self) -> tuple[str, ...]:
        """The disks of the VG, by the kernel's names (``/dev/sdb``)."""
        return _devices(self._group)

    @property
    def loop_data(self) -> LoopFile | None:
        """The file of the pool's data; None in direct-lvm."""
        return self._loop.data if self._loop else None

    @property
    def loop_metadata(self) -> LoopFile | None:
        """The file of the pool's metadata and of the catalog; None in direct-lvm."""
        return self._loop.metadata if self._loop else None

    @property
    def active(self) -> bool:
        """Whether both LVs are active."""
        return self._volume(names.POOL).active and self.catalog_active

    @property
    def pool_name(self) -> str:
        """The thin pool's device-mapper name, ``thinpool--<pool id>-pool``, as long as LVM puts no layer over it.

        For people; find the device by ``pool_uuid``.
        """
        return f"{self.vg_name.replace('-', '--')}-{names.POOL}"

    @property
    def pool_uuid(self) -> str:
        """The thin pool's device-mapper UUID, ``LVM-<vg uuid><lv uuid>-tpool``; find the device by this."""
        uuid = f"{self._group.uuid}{self._volume(names.POOL).uuid}".replace("-", "")
        return f"LVM-{uuid}-tpool"

    @property
    def catalog_path(self) -> str:
        """``/dev/dm-<minor>`` of the catalog's LV. Raise UnavailableError if it is not active."""
        return self._node(names.CATALOG)

    @property
    def catalog_active(self) -> bool:
        """Whether the catalog's LV is active."""
        return self._volume(names.CATALOG).active

    @property
    def catalog_fresh(self) -> bool:
        """Whether the catalog's LV was never formatted, so that mkfs may run on it (LV tag ``thinpool-csi.fresh``)."""
        return names.TAG_FRESH in self._volume(names.CATALOG).tags

    def catalog_formatted(self) -> None:
        """Record for good that the catalog's LV holds a file system. To be called before anything is stored in it."""
        if self.catalog_fresh:
            self._lvm.run("lvchange", "--deltag", names.TAG_FRESH, f"{self.vg_name}/{names.CATALOG}")
            self.refresh()

    @property
    def block_size(self) -> Bytes:
        """The pool's block size (LVM: chunk size)."""
        return self._volume(names.POOL).chunk_size

    @property
    def data_size(self) -> Bytes:
        """The size of the pool's data."""
        return self._volume(names.POOL).size

    @property
    def metadata_size(self) -> Bytes:
        """The size of the pool's metadata."""
        return self._volume(names.METADATA).size

    @property
    def room(self) -> Room:
        """What is left to extend the pool into. ``csi.lvm.layout.no_extension_room`` judges it."""
        if self._loop:
            free = {os.path.realpath(disk.name): disk.free for disk in self._group.disks}
            data, metadata = (free[device] for device in self._loop.devices)
            return layout.loop_room(data, metadata, self.metadata_size)
        return layout.direct_room(self._group.free, self.metadata_size, self.spec.autoextend.percent)

    def refresh(self) -> None:
        """Read everything anew (one LVM command). Raise UnavailableError if the VG or one of its disks is gone."""
        group = next((group for group in self._lvm.report().groups if group.uuid == self._group.uuid), None)
        if group is None:
            raise UnavailableError("read", self.vg_name, "the volume group is not on its disks any more")
        self._group = group
        check_disks(self.spec.name, group)

    def activate(self, *, clear_needs_check: bool = False) -> None:
        """Activate catalog and pool; LVM runs thin_check first. Does nothing (no command) if both are active.

        ``clear_needs_check`` lets thin_check clear an inactive pool's flag if it finds no damage. Raise
        NeedsRepairError for damage or the flag, the pool left as active as it was; else UnavailableError.
        """
        pool = f"{self.vg_name}/{names.POOL}"
        was_active = self._volume(names.POOL).active
        if not was_active and self._volume(names.METADATA).active:
            raise self._needs_repair("its metadata is active by itself: a repair was cut short")
        if not self.active:
            try:
                self._lvm.run(
                    *("lvchange", "--activate", "y", pool, f"{self.vg_name}/{names.CATALOG}"),
                    deadline=LONG_DEADLINE,
                    clear_needs_check=clear_needs_check,
                )
            except CommandError as error:
                # LVM (lib/activate/dev_manager.c) tells that thin_check found damage in these words alone.
                if "repair required" in error.why:
                    raise self._needs_repair(error.why) from error
                raise UnavailableError("activate pool", self.vg_name, error.why, way_out="see what LVM says") from error
            self.refresh()
        state = self._volume(names.POOL)
        if state.check_needed or state.health == "failed":
            if not was_active:
                self._lvm.run("lvchange", "--activate", "n", pool, deadline=LONG_DEADLINE)
                self.refresh()
            raise self._needs_repair("the kernel says " + ("needs_check" if state.check_needed else "that it failed"))

    def resume(self) -> None:
        """Have the kernel run the pool as the VG says: an LVM that is killed in an extension leaves it suspended."""
        self._lvm.run("lvchange", "--refresh", f"{self.vg_name}/{names.POOL}", deadline=LONG_DEADLINE)
        self.refresh()

    def _needs_repair(self, why: str) -> NeedsRepairError:
        return NeedsRepairError(
            "activate pool", self.vg_name, why, way_out=f"run 'thinpool-csi repair --pool {self.spec.name}'"
        )

    def metadata_swap(self) -> MetadataSwap:
        """Return the metadata of the pool, which must be inactive, to be looked at and replaced."""
        return MetadataSwap(self._lvm, self._group, self._loop.devices[1:] if self._loop else ())

    def deactivate(self) -> None:
        """Deactivate pool and catalog, and detach loop devices. Idempotent. CommandError while something is in use."""
        volumes = [f"{self.vg_name}/{name}" for name in (names.POOL, names.CATALOG)]
        self._lvm.run("lvchange", "--activate", "n", *volumes, deadline=LONG_DEADLINE)
        self.refresh()
        if self._loop:
            self._loop.detach(path=self._lvm.path)

    def remove(self) -> None:
        """Remove the VG and all its LVs, none of them in use, and the marks of LVM from its disks; idempotent.

        Loop files are removed too. Raise CommandError, KernelError.
        """
        devices = self.devices
        # LVM compares the pool's transaction id with its own only when it loads the pool.
        self._lvm.run(
            "lvchange", "--activate", "n", *(f"{self.vg_name}/{name}" for name in (names.POOL, names.CATALOG))
        )
        self._lvm.run("vgremove", "--yes", "--force", self.vg_name)
        self._lvm.run("pvremove", "--yes", *devices)
        if self._loop:
            self._loop.remove(path=self._lvm.path)

    def extend_data(self, step: Bytes) -> Bytes:
        """Extend the pool's data by the smaller of ``step`` (rounded up to extents) and the room; return the new size.

        Raise NoSpaceError if there is no room at all. The caller compares the kernel's own totals: LVM answers OK for
        a pool with needs_check and grows nothing.
        """
        self.refresh()
        self._extend("extend data of", "--extents", step, self.room.data, self._loop.devices[:1] if self._loop else ())
        return self.data_size

    def extend_metadata(self, step: Bytes) -> Bytes:
        """Extend the pool's metadata likewise; return the new size. Raise NoSpaceError at the end or at 15.8 GiB."""
        self.refresh()
        devices = self._loop.devices[1:] if self._loop else ()
        self._extend("extend metadata of", "--poolmetadatasize", step, self.room.metadata, devices)
        return self.metadata_size

    def _extend(self, operation: str, option: str, step: Bytes, room: Bytes, devices: Sequence[str]) -> None:
        extent = self._group.extent_size
        size = min(round_up(step, extent), room)
        if size <= 0:
            raise NoSpaceError(
                operation, self.vg_name, "no free extents are left for it", way_out="add a disk to the pool"
            )
        amount = f"+{size // extent}" if option == "--extents" else f"+{size}b"
        self._lvm.run("lvextend", option, amount, f"{self.vg_name}/{names.POOL}", *devices)
        self.refresh()

    def add_devices(self, paths: Sequence[str]) -> None:
        """Add blank disks to the VG. Raise DevicesRefusedError as ``create`` does. Not for loop-lvm (StateError)."""
        if self._loop:
            raise StateError(
                "add disks to", self.vg_name, "a loop-lvm pool has its two files", way_out="use direct-lvm"
            )
        mine = self.devices
        wanted = [path for path in paths if os.path.realpath(path) not in mine]
        if not wanted:
            return
        threshold = self.spec.autoextend.threshold
        seen = (*mine, *present(wanted))
        lvm = Lvm(seen, self._lvm.system_id, threshold=threshold, path=self._lvm.path)
        own_pvs = self._intent.load()
        disks, refused = creation.examine(wanted, lvm, force=self.spec.force, own_pvs=own_pvs)
        if refused:
            raise creation.refused_error("add disks to", self.vg_name, refused)
        creation.make_pvs(disks, lvm, self._intent, own_pvs)
        lvm.run("vgextend", "--yes", self.vg_name, *(disk.device for disk in disks))
        self._lvm = lvm
        self.refresh()
        self._intent.clear()

    def set_when_full(self, when_full: WhenFull) -> None:
        """Make the pool queue or fail writes when full, and for ``wait`` switch the kernel's 60 s limit off.

        The limit is the host-wide parameter ``no_space_timeout`` of dm_thin_pool. Does nothing where both are so.
        To be called after ``activate()``, before the pool is full. Raise KernelError if it cannot be written.
        """
        if when_full is WhenFull.WAIT:
            try:
                if NO_SPACE_TIMEOUT.read_text().strip() != "0":
                    NO_SPACE_TIMEOUT.write_text("0\n")
            except OSError as error:
                raise KernelError("set", str(NO_SPACE_TIMEOUT), "cannot be set", errno=error.errno or 0) from error
        wanted = "error" if when_full is WhenFull.ERROR else "queue"
        if self._volume(names.POOL).when_full != wanted:
            answer = "y" if when_full is WhenFull.ERROR else "n"
            self._lvm.run("lvchange", "--errorwhenfull", answer, f"{self.vg_name}/{names.POOL}")
            self.refresh()

    def _volume(self, name: str) -> LogicalVolume:
        volume = self._group.volumes.get(name)
        if volume is None:
            if not self.complete:
                raise StateError("use pool", self.vg_name, "its creation was interrupted", way_out="open it again")
            raise DataLossError(
                "use pool", self.vg_name, f"the logical volume {name} is gone", way_out="restore the VG's metadata"
            )
        return volume

    def _node(self, name: str) -> str:
        volume = self._volume(name)
        if not volume.active or volume.minor < 0:
            raise UnavailableError("use", f"{self.vg_name}/{name}", "not active")
        return f"/dev/dm-{volume.minor}"


def _loop_directory(spec: PoolSpec, state_dir: Path) -> Path:
    return state_dir / "loop" / spec.name


def _devices(group: VolumeGroup) -> tuple[str, ...]:
    return tuple(os.path.realpath(disk.name) for disk in group.disks)
