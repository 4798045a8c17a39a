"""LVM's own way, at its best: one disk named, no udev, no backup of metadata, no monitoring."""

import itertools
from typing import Final

from bench.sample import timed
from csi.lvm.creation import examine, refused_error, sizes
from csi.lvm.runner import LONG_DEADLINE, Lvm
from csi.settings import PoolSpec
from csi.units import Bytes

_VG: Final = "bench"
_POOL: Final = f"{_VG}/pool"


class LvmPool:
    """A thin pool of LVM, of the shape that ours would have on the same disk. Errors are CommandError."""

    def __init__(self, disk: str) -> None:
        """Make it. Raise DevicesRefusedError unless the disk is empty."""
        self._disk = disk
        # Its arguments are those that the driver runs LVM with.
        self._lvm = Lvm([disk], "bench")
        taken, refused = examine([disk], self._lvm, force=False, own_pvs=frozenset())
        if refused:
            raise refused_error("use disk", disk, refused)
        shape = sizes(PoolSpec("shape", devices=(disk,)), [taken[0].size])
        self._lvm.run("pvcreate", disk)
        self._lvm.run("vgcreate", "--setautoactivation", "n", _VG, disk)
        self._lvm.run(
            "lvcreate",
            *("--type", "thin-pool", "--name", "pool", "--size", f"{shape.data - shape.metadata}b"),
            *("--poolmetadatasize", f"{shape.metadata}b", "--chunksize", "64k", "--zero", "y"),
            *("--discards", "passdown", "--yes", _VG),
            deadline=LONG_DEADLINE,
        )
        self._names = itertools.count()

    def name(self) -> str:
        """Return a name that nothing has."""
        return f"v{next(self._names)}"

    def create(self, name: str, size: Bytes) -> float:
        """Make a thin volume, which LVM activates; return the seconds."""
        return self._timed("lvcreate", "--virtualsize", f"{size}b", "--thin", _POOL, "--name", name)

    def create_idle(self, name: str, size: Bytes) -> None:
        """Make a thin volume and leave it inactive."""
        self._lvm.run("lvcreate", "--activate", "n", "--virtualsize", f"{size}b", "--thin", _POOL, "--name", name)

    def snapshot(self, name: str, origin: str) -> float:
        """Cut a snapshot, which LVM does not activate; return the seconds."""
        return self._timed("lvcreate", "--snapshot", f"{_VG}/{origin}", "--name", name)

    def remove(self, *names: str) -> float:
        """Remove volumes; return the seconds."""
        return self._timed("lvremove", "--force", "--yes", *(f"{_VG}/{name}" for name in names))

    def deactivate(self, name: str) -> None:
        """Take a volume out of use."""
        self._lvm.run("lvchange", "--activate", "n", f"{_VG}/{name}")

    def linear(self, name: str, size: Bytes) -> str:
        """Make a linear volume and return its path."""
        arguments = ("--zero", "n", "--wipesignatures", "n")
        self._lvm.run("lvcreate", "--type", "linear", "--size", f"{size}b", "--name", name, *arguments, _VG)
        return self.path(name)

    def path(self, name: str) -> str:
        """Return the path of an active volume."""
        return f"/dev/mapper/{_VG}-{name}"

    def close(self) -> None:
        """Remove everything and leave the disk as it was."""
        self._lvm.run("vgremove", "--force", "--yes", _VG, deadline=LONG_DEADLINE)
        self._lvm.run("pvremove", self._disk)

    def _timed(self, command: str, *arguments: str) -> float:
        return timed(lambda: self._lvm.run(command, *arguments))
