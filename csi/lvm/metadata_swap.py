"""The metadata of a pool that is not active, taken by itself, and the draft that may take its place.

A draft is an LV ``old-metadata-<n>`` with the tag ``thinpool-csi.draft``; the swap makes it hold the old metadata. The
tag goes before the swap, and only what has it is ever removed. (After the swap LVM 2.03.16 has the tags of both on the
other name, 2.03.31 on the same: none of them may say which LV is which.)

``lvconvert --repair`` is not used: it takes thin_repair's word for it (see csi/dm/thin_tools.py), swaps without a
thin_check, and has no answer where thin_repair fails.
"""

from collections.abc import Sequence

from csi.errors import NoSpaceError, UnavailableError
from csi.failpoint import hit
from csi.lvm import layout, names
from csi.lvm.runner import LONG_DEADLINE, Lvm
from csi.lvm.values import VolumeGroup
from csi.units import Bytes, format_size, round_up


class MetadataSwap:
    """Metadata and draft of one pool. Every method may raise CommandError."""

    def __init__(self, lvm: Lvm, group: VolumeGroup, devices: Sequence[str] = ()) -> None:
        """``devices`` are the disks that metadata must lie on; none: any of the VG's."""
        self._lvm = lvm
        self._group = group
        self._devices = tuple(devices)

    def open(self) -> str:
        """Activate the metadata alone, read-only, and the catalog; return the metadata's path.

        What a repair left half done is taken away first. While it is active LVM refuses to activate the pool.
        """
        self.close()
        # One at a time: LVM takes a part of a pool only where nothing else is named (tools/lvchange.c).
        for name in (names.METADATA, names.CATALOG):
            self._lvm.run("lvchange", "--yes", "--activate", "y", self._path(name), deadline=LONG_DEADLINE)
        self._refresh()
        return self._node(names.METADATA)

    def close(self) -> None:
        """Deactivate the metadata and remove the draft. Idempotent."""
        self._deactivate()
        self._remove_drafts()

    def draft(self, size: Bytes) -> str:
        """Make a draft of at least ``size``, active, in the place of any other; return its path.

        Where too little is free, the pool's spare is taken, which LVM makes anew when it extends the metadata. Raise
        NoSpaceError, with nothing changed.
        """
        self._remove_drafts()
        wanted = round_up(size, self._group.extent_size)
        if wanted > layout.METADATA_MAXIMUM:
            raise self._no_space(wanted, "the kernel takes 15.8 GiB at most")
        spares = [each for name, each in self._group.volumes.items() if name.endswith("_pmspare")]
        free = sum(disk.free for disk in self._group.disks if not self._devices or disk.name in self._devices)
        if free + sum(each.size for each in spares) < wanted:
            raise self._no_space(wanted, f"only {format_size(Bytes(free))} are free")
        if free < wanted:
            for spare in spares:
                self._lvm.run("lvremove", "--yes", self._path(spare.name))
            hit("repair.after-spare")
        taken = [name.removeprefix(names.OLD_METADATA) for name in self._group.volumes]
        name = f"{names.OLD_METADATA}{1 + max((int(each) for each in taken if each.isdecimal()), default=0)}"
        self._lvm.run(
            "lvcreate",
            *("--yes", "--name", name, "--extents", str(wanted // self._group.extent_size)),
            *("--addtag", names.TAG_DRAFT, "--wipesignatures", "y", "--zero", "y", self._group.name, *self._devices),
        )
        hit("repair.after-draft")
        self._refresh()
        return self._node(name)

    def swap(self) -> str:
        """Make the draft the pool's metadata, in one step; return the name of the LV that keeps the old one."""
        self._deactivate()
        (name,) = self._drafts()
        self._lvm.run("lvchange", "--deltag", names.TAG_DRAFT, self._path(name))
        # Cut short here, it is kept for good, though it is not the old one: a person may remove it.
        hit("repair.after-keep")
        self._lvm.run(
            "lvconvert",
            *("--yes", "--thinpool", self._path(names.POOL), "--poolmetadata", self._path(name)),
            deadline=LONG_DEADLINE,
        )
        self._refresh()
        return name

    @property
    def size(self) -> Bytes:
        """The metadata's size."""
        return self._group.volumes[names.METADATA].size

    @property
    def extent(self) -> Bytes:
        """The size of an extent."""
        return self._group.extent_size

    def _drafts(self) -> list[str]:
        return [name for name, each in self._group.volumes.items() if names.TAG_DRAFT in each.tags]

    def _remove_drafts(self) -> None:
        drafts = [self._path(name) for name in self._drafts()]
        if drafts:
            self._lvm.run("lvremove", "--yes", *drafts)
            self._refresh()

    def _deactivate(self) -> None:
        active = [name for name in (names.METADATA, *self._drafts()) if self._group.volumes[name].active]
        for name in active:
            self._lvm.run("lvchange", "--yes", "--activate", "n", self._path(name), deadline=LONG_DEADLINE)
        if active:
            self._refresh()

    def _refresh(self) -> None:
        found = [group for group in self._lvm.report().groups if group.uuid == self._group.uuid]
        if not found:
            raise UnavailableError("read", self._group.name, "the volume group is not on its disks any more")
        self._group = found[0]

    def _path(self, name: str) -> str:
        return f"{self._group.name}/{name}"

    def _node(self, name: str) -> str:
        volume = self._group.volumes[name]
        if volume.minor < 0:
            raise UnavailableError("use", self._path(name), "not active")
        return f"/dev/dm-{volume.minor}"

    def _no_space(self, wanted: Bytes, why: str) -> NoSpaceError:
        return NoSpaceError(
            "repair pool",
            self._group.name,
            f"the old metadata is kept, so new metadata needs {format_size(wanted)} in the VG: {why}",
            way_out="name one more disk in the pool's devices and run it again",
        )
