"""Repairing the metadata of a pool that no process serves.

New metadata is written beside the old, verified, and takes its place in one step; the old is kept as it was. Up to that
step nothing is changed, so a repair that was cut short is simply done again.
"""

import enum
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, Self

import structlog

from csi.catalog.store import Catalog
from csi.dm import block, thin_tools
from csi.dm.thin_device import ThinDevice, ours
from csi.errors import (
    CommandError,
    DataLossError,
    DevicesRefusedError,
    DriverError,
    NoSpaceError,
    NotFoundError,
    StateError,
)
from csi.failpoint import hit
from csi.lvm.disks import select
from csi.lvm.pool_group import PoolGroup
from csi.model import SENTINEL, Device, Handle, Kind, State, ThinId
from csi.settings import Mode, PoolSpec
from csi.units import Blocks, Bytes
from csi.volumes.opening import Place, copy_catalog, mount_catalog, turn_to_open, unmount_catalog

_OPERATION: Final = "repair pool"
_BY_HAND: Final = "copy the disks and try by hand, or restore the volumes from elsewhere"

log = structlog.get_logger()


class Way(enum.Enum):
    """What a repair does."""

    NOTHING = "nothing"
    CLEAR = "clear"
    """Take the kernel's mark from sound metadata."""
    WRITE = "write"
    """Write what can be read of it, which is exact, as new metadata."""
    SEARCH = "search"
    """Have thin_repair look for the newest whole state, which may be older than the pool's data."""


@dataclass(frozen=True)
class Repaired:
    """What a repair did, or would do."""

    way: Way
    verdict: str
    """What thin_check has against the metadata; '' if it is sound."""
    lost: tuple[str, ...] = ()
    """The volumes and snapshots that are not in the new metadata."""
    devices: int = 0
    """How many thin devices are in it."""
    catalog_trouble: str = ""
    """Why the catalog could not be read."""
    old: str = ""
    """The LV that keeps the old metadata."""


@dataclass(frozen=True)
class _Rows:
    """What the catalog knows."""

    devices: Mapping[ThinId, Device]
    ceiling: int
    trouble: str = ""


def repair(spec: PoolSpec, place: Place, *, go: bool) -> Repaired:
    """Repair the pool's metadata if it needs it; without ``go`` only look. The pool is out of the kernel afterwards.

    Raise PoolBusyError while a process serves it, StateError while volumes of it are active and where nobody knows how
    to repair it, NoSpaceError where the old metadata could not be kept, DataLossError if what was written is not what
    it should be; the metadata is as it was then.
    """
    with ExitStack() as stack:
        stack.enter_context(turn_to_open(spec, place))
        group = _take_out(_find(spec, place), spec, place)
        stack.callback(group.deactivate)
        with _Repair(spec, place, group) as work:
            return work.done(go=go)


def _find(spec: PoolSpec, place: Place) -> PoolGroup:
    group = PoolGroup.find(replace(spec, adopt=frozenset()), place.node_name, place.state_dir)
    if group is None:
        raise NotFoundError(_OPERATION, spec.name, "there is no such pool on this node's disks")
    if not group.complete or group.catalog_fresh:
        raise StateError(_OPERATION, spec.name, "its making was cut short", way_out="start the node")
    return group


def _take_out(group: PoolGroup, spec: PoolSpec, place: Place) -> PoolGroup:
    """Take a pool that nobody serves or uses out of the kernel, as a node that could not open it has left it."""
    busy = [info.name for info in ours(place.control, group.pool_id) if info.name != _sentinel(group).device]
    if busy:
        raise StateError(
            _OPERATION,
            spec.name,
            f"{len(busy)} of its volumes are active ({busy[0]})",
            way_out="end what uses them; those that the node cannot unstage any more go with a restart of the machine",
        )
    if group.catalog_active:
        with block.exclusive(group.catalog_path):
            directory = place.run_dir / group.pool_id / "catalog"
            if directory.exists():
                unmount_catalog(directory)
            ThinDevice(place.control, _sentinel(group)).deactivate()
    group.deactivate()
    # Deactivated, it has given back its loop devices too.
    return _find(spec, place)


def _sentinel(group: PoolGroup) -> Handle:
    return Handle(group.pool_id, SENTINEL)


class _Repair:
    """One repair: the parts of an inactive pool taken by themselves, from enter to exit."""

    def __init__(self, spec: PoolSpec, place: Place, group: PoolGroup) -> None:
        self._spec = spec
        self._place = place
        self._group = group
        self._swap = group.metadata_swap()
        self._directory = place.state_dir / "repair" / spec.name
        self._rows = _Rows({}, 0)
        self._verdict = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._swap.close()
        shutil.rmtree(self._directory, ignore_errors=True)

    def done(self, *, go: bool) -> Repaired:
        source = self._swap.open()
        self._group.refresh()
        with block.exclusive(self._group.catalog_path):
            hit("repair.after-open")
            self._rows = _read_catalog(self._group, self._place)
            self._verdict = thin_tools.check(source)
            if not self._verdict:
                return self._clear(source, go=go)
            described = thin_tools.describe(source)
            found = self._dumped(source, described) if described is not None else None
            if described is None or found is None:
                return self._search(source, go=go)
            xml, kept = found
            done = self._said(Way.WRITE, kept, described.mapped)
            return replace(done, old=self._write(xml, kept)) if go else done

    def _clear(self, source: str, *, go: bool) -> Repaired:
        marked = thin_tools.needs_check(source)
        if marked and go:
            self._swap.close()
            self._group.refresh()
            self._group.activate(clear_needs_check=True)
            hit("repair.after-clear")
        return Repaired(Way.CLEAR if marked else Way.NOTHING, "", catalog_trouble=self._rows.trouble)

    def _dumped(self, source: str, described: thin_tools.Described) -> tuple[Path, dict[ThinId, int]] | None:
        """Return the XML of everything that can be read exactly, and what is in it; None if that is nothing."""
        shutil.rmtree(self._directory, ignore_errors=True)
        self._directory.mkdir(parents=True, mode=0o700)
        whole = self._directory / "whole.xml"
        # All at once where that can be: later versions of thin_dump then keep shared what snapshots share.
        if thin_tools.dump(source, whole):
            return whole, described.mapped
        parts = {thin: self._directory / f"{thin}.xml" for thin in sorted(described.mapped)}
        read = {thin: file for thin, file in parts.items() if thin_tools.dump(source, file, thin=thin)}
        if not read:
            return None
        with whole.open("w") as stream:
            stream.writelines(thin_tools.merged(described.header, map(_lines, read.values())))
        hit("repair.after-dump")
        return whole, {thin: described.mapped[thin] for thin in read}

    def _write(self, xml: Path, kept: dict[ThinId, int]) -> str:
        """Write new metadata of what could be read, and put it in the place of the old."""
        # Unshared, it may need more than it had.
        sizes = sorted({self._swap.size, max(self._swap.size, thin_tools.room_for(kept, self._swap.extent))})
        for size in sizes:
            target = self._draft(size)
            try:
                thin_tools.restore(xml, target)
                break
            except CommandError:
                if size == sizes[-1]:
                    raise
        return self._put(target, kept)

    def _search(self, source: str, *, go: bool) -> Repaired:
        """Have thin_repair find what it can."""
        if not thin_tools.repairs_in_full():
            why = f"{self._verdict}; thin_repair before 1.0 leaves out what it cannot read and says nothing of it"
            way_out = "run it in the driver's image, or with thin-provisioning-tools 1.0 or later"
            raise StateError(_OPERATION, self._spec.name, why, way_out=way_out)
        known = None
        if not thin_tools.superblock_sound(source):
            if not self._rows.ceiling:
                why = f"{self._verdict}; and the catalog, which knows its number, cannot be read ({self._rows.trouble})"
                raise StateError(_OPERATION, self._spec.name, why, way_out=_BY_HAND)
            size = self._group.block_size
            # A number above the catalog's: the next start sees that both differ, and changes nothing before a rebuild.
            known = thin_tools.Known(self._rows.ceiling + 1, size, Blocks(self._group.data_size // size))
        if not go:
            return Repaired(Way.SEARCH, self._verdict, catalog_trouble=self._rows.trouble)
        target = self._draft(self._swap.size)
        try:
            thin_tools.repair(source, target, known)
            found = thin_tools.describe(target)
        except CommandError as error:
            why = f"{self._verdict}; the metadata is as it was: {error}"
            raise StateError(_OPERATION, self._spec.name, why, way_out=_BY_HAND) from error
        if found is None or not found.mapped:
            why = f"{self._verdict}; thin_repair found no whole state in the metadata, which is as it was"
            raise StateError(_OPERATION, self._spec.name, why, way_out=_BY_HAND)
        done = self._said(Way.SEARCH, found.mapped, found.mapped)
        return replace(done, old=self._put(target, found.mapped))

    def _draft(self, size: Bytes) -> str:
        try:
            target = self._swap.draft(size)
        except NoSpaceError:
            if not _add_disks(self._group, self._spec):
                raise
            self._swap = self._group.metadata_swap()
            target = self._swap.draft(size)
        # A later search must not find in it what lay there before.
        block.zero(target)
        return target

    def _put(self, target: str, kept: dict[ThinId, int]) -> str:
        """Verify the draft, and only then let it take the place of the metadata."""
        hit("repair.after-restore")
        block.flush(target)
        said = thin_tools.check(target, clear=True)
        found = thin_tools.describe(target)
        if said or found is None or found.mapped != kept or thin_tools.needs_check(target):
            why = f"new metadata is not what was read of the old ({said or 'its devices differ'}); nothing was changed"
            raise DataLossError(_OPERATION, self._spec.name, why, way_out=_BY_HAND)
        old = f"{self._group.vg_name}/{self._swap.swap()}"
        hit("repair.after-swap")
        log.warning("pool has new metadata", pool=self._spec.name, old=old)
        return old

    def _said(self, way: Way, kept: Mapping[ThinId, int], described: Mapping[ThinId, int]) -> Repaired:
        rows = self._rows.devices
        wanted = {thin for thin, row in rows.items() if row.state is State.READY and row.kind is not Kind.TEMPLATE}
        # What the catalog does not know may be somebody's; what waits for its deletion is not.
        wanted |= {thin for thin in described if thin not in rows}
        lost = sorted(wanted - kept.keys() - {SENTINEL})
        return Repaired(
            way,
            self._verdict,
            tuple(_called(rows.get(thin), Handle(self._group.pool_id, thin)) for thin in lost),
            len(kept.keys() - {SENTINEL}),
            self._rows.trouble,
        )


def _called(row: Device | None, handle: Handle) -> str:
    return f"{row.kind} {handle} ({row.name})" if row is not None else f"device {handle}"


def _lines(file: Path) -> Iterator[str]:
    with file.open() as stream:
        yield from stream


def _read_catalog(group: PoolGroup, place: Place) -> _Rows:
    """Return what a copy of the catalog knows, and why nothing if it cannot be read."""
    try:
        directory = mount_catalog(group, place)
        try:
            with tempfile.TemporaryDirectory(prefix="thinpool-csi-") as copy:
                copy_catalog(directory, Path(copy))
                catalog = Catalog.open(Path(copy), group.pool_id)
                try:
                    ceiling, _ = catalog.ceiling()
                    return _Rows({row.handle.thin: row for row in catalog.devices()}, ceiling)
                finally:
                    catalog.close()
        finally:
            unmount_catalog(directory)
    except (DriverError, OSError) as error:
        return _Rows({}, 0, str(error))


def _add_disks(group: PoolGroup, spec: PoolSpec) -> bool:
    """Add the blank disks that the pool's devices name and that are not in it; tell whether there were any."""
    before = group.devices
    for path in select(spec) if spec.mode is Mode.DIRECT else ():
        if os.path.realpath(path) not in before:
            try:
                group.add_devices([path])
            except DevicesRefusedError as error:
                log.warning("disk left alone", pool=spec.name, disk=path, why=error.why)
    return group.devices != before
