"""Making a pool: PVs, a VG, and its LVs, in steps of which any may be the last before a crash.

Until the VG is there, an intent file in the state directory holds the UUIDs of the PVs that are being made: only those
are taken again, for a PV in no group may also be what an accident has left of somebody's VG. Once the VG is there, its
tag ``thinpool-csi.creating`` says that nothing in it was ever used, and the next start begins its LVs anew.
"""

import json
import os
import secrets
import string
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final

from csi import durable
from csi.errors import DevicesRefusedError, KernelError, NoDevicesError, StateError
from csi.lvm import layout, names
from csi.lvm.disks import Disk, inspect, refusal
from csi.lvm.runner import LONG_DEADLINE, Lvm
from csi.lvm.values import VolumeGroup
from csi.model import PoolId
from csi.settings import Mode, PoolSpec, WhenFull
from csi.units import Bytes

_UUID_FORM: Final = (6, 4, 4, 4, 4, 4, 6)


class Intent:
    """The UUIDs of PVs that are being made, durable."""

    def __init__(self, state_dir: Path, pool: str) -> None:
        self._file = state_dir / "lvm" / f"creating-{pool}.json"

    def load(self) -> frozenset[str]:
        """Return what was being made; nothing if there is no intent. Raise StateError if it cannot be read."""
        try:
            uuids = json.loads(self._file.read_text())["pvs"]
            return frozenset(str(uuid) for uuid in uuids)
        except FileNotFoundError:
            return frozenset()
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise StateError("read", str(self._file), f"not an intent: {error}", way_out="remove the file") from error

    def save(self, uuids: Iterable[str]) -> None:
        """Replace the intent. Raise KernelError."""
        durable.write(self._file, json.dumps({"pvs": sorted(uuids)}))

    def clear(self) -> None:
        """Forget the intent. Raise KernelError."""
        try:
            self._file.unlink(missing_ok=True)
        except OSError as error:
            raise KernelError("remove", str(self._file), "cannot be removed", errno=error.errno or 0) from error


def examine(
    paths: Sequence[str], lvm: Lvm, *, force: bool, own_pvs: frozenset[str]
) -> tuple[list[Disk], dict[str, str]]:
    """Look at disks and return those that may be taken, and for each other path the reason why not."""
    taken: list[Disk] = []
    refused: dict[str, str] = {}
    for path in paths:
        try:
            disk = inspect(path, lvm)
        except DevicesRefusedError as error:
            refused[path] = error.why
            continue
        reason = refusal(disk, force=force, own_pvs=own_pvs)
        if reason is None:
            taken.append(disk)
        else:
            refused[path] = reason
    return taken, refused


def refused_error(operation: str, subject: str, refused: Mapping[str, str]) -> DevicesRefusedError:
    """Return the error that names each refused disk with its reason."""
    if not any(os.path.exists(path) for path in refused):
        why = f"there is no such device: {', '.join(refused)}" if refused else "none of its devices was found"
        return NoDevicesError(operation, subject, why)
    listed = "; ".join(f"{path}: {reason}" for path, reason in refused.items())
    return DevicesRefusedError(operation, subject, listed)


def make_pvs(disks: Sequence[Disk], lvm: Lvm, intent: Intent, own_pvs: frozenset[str]) -> None:
    """Make each disk a PV, unless an interrupted creation of ours did. LVM claims each disk while it writes."""
    fresh = {_new_uuid(): disk for disk in disks if not (disk.pv_uuid and disk.pv_uuid in own_pvs)}
    intent.save(own_pvs | fresh.keys())
    for uuid, disk in fresh.items():
        lvm.run("pvcreate", "--yes", "--uuid", uuid, "--norestorefile", "--zero", "y", disk.device)


def make_vg(spec: PoolSpec, pool_id: PoolId, lvm: Lvm, devices: Sequence[str]) -> None:
    """Make the VG of a pool of PVs, owned by the node whose system id ``lvm`` has, not activated by anybody else."""
    tags = (
        names.TAG_DRIVER,
        names.TAG_CREATING,
        f"{names.TAG_ID}={pool_id}",
        f"{names.TAG_POOL}={spec.name}",
    )
    lvm.run(
        "vgcreate",
        *("--yes", "--setautoactivation", "n", "--physicalextentsize", f"{layout.EXTENT}b"),
        *(word for tag in tags for word in ("--addtag", tag)),
        names.vg_name(pool_id),
        *devices,
    )


def sizes(spec: PoolSpec, pv_sizes: Sequence[Bytes]) -> layout.PoolSizes:
    """Return the sizes of a pool on PVs of these sizes (in loop-lvm: data's, then metadata's). Raise SizeError."""
    if spec.mode is Mode.LOOP:
        return layout.loop_sizes(*pv_sizes)
    total = Bytes(sum(pv_sizes))
    return layout.direct_sizes(total, spec.thinp_percent, spec.thinp_meta_percent, spec.autoextend.percent)


def make_lvs(spec: PoolSpec, lvm: Lvm, group: VolumeGroup, loop_devices: Sequence[str]) -> None:
    """Make catalog and pool in a VG that carries the tag ``thinpool-csi.creating``, and take the tag away.

    ``loop_devices`` are the PVs for data and for metadata in loop-lvm, in direct-lvm none: there LVM places them.
    """
    done = names.POOL in group.volumes and group.volumes[names.POOL].is_thin_pool
    if not done:
        if group.volumes:
            lvm.run("lvremove", "--yes", "--force", group.name)
        _make_lvs(spec, lvm, group, loop_devices)
    lvm.run("vgchange", "--deltag", names.TAG_CREATING, group.name)


def _make_lvs(spec: PoolSpec, lvm: Lvm, group: VolumeGroup, loop_devices: Sequence[str]) -> None:
    by_name = {os.path.realpath(disk.name): disk.size for disk in group.disks}
    ordered = [by_name[device] for device in loop_devices] or list(by_name.values())
    wanted = sizes(spec, ordered)
    data_pv, metadata_pv = loop_devices[:1], loop_devices[1:]

    def extents(size: Bytes) -> tuple[str, str]:
        return "--extents", str(size // group.extent_size)

    lvm.run(
        "lvcreate",
        *("--yes", "--name", names.CATALOG, *extents(wanted.catalog), "--addtag", names.TAG_FRESH),
        *("--wipesignatures", "y", "--zero", "y", group.name, *metadata_pv),
    )
    inactive = ("--yes", "--activate", "n", "--wipesignatures", "n", "--zero", "n")
    lvm.run("lvcreate", *inactive, "--name", names.POOL, *extents(wanted.data), group.name, *data_pv)
    lvm.run("lvcreate", *inactive, "--name", "pool_meta", *extents(wanted.metadata), group.name, *metadata_pv)
    lvm.run(
        "lvconvert",
        *("--yes", "--type", "thin-pool", "--poolmetadata", f"{group.name}/pool_meta", "--poolmetadataspare", "y"),
        # Zeroing: no volume may ever show what another has left behind.
        *("--chunksize", f"{spec.block_size}b", "--zero", "y", "--discards", "passdown"),
        *("--errorwhenfull", "y" if spec.when_full is WhenFull.ERROR else "n"),
        f"{group.name}/{names.POOL}",
        *metadata_pv,
        deadline=LONG_DEADLINE,
        # A sparse file of our own has nothing else in it, and should stay sparse.
        zero_metadata=not loop_devices,
    )


def _new_uuid() -> str:
    """Return a fresh UUID in LVM's form (lib/uuid/uuid.c): letters and digits, 6-4-4-4-4-4-6."""
    letters = string.ascii_letters + string.digits
    return "-".join("".join(secrets.choice(letters) for _ in range(count)) for count in _UUID_FORM)
