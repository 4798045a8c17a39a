"""A thin pool: its messages and its status.

Facts are from drivers/md/dm-thin.c and Documentation/admin-guide/device-mapper/thin-provisioning.rst. A message that
answered OK has been committed, but the kernel drops the error of that very commit: so the status is read again after
each message that changes something, and a pool that does not serve any more is an error even though the message
was none.
"""

import errno
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from csi.dm import block
from csi.dm.ioctl import Control, Info
from csi.dm.targets import Line, ThinPoolStatus, ThinPoolTable
from csi.errors import KernelError, UnavailableError
from csi.model import ThinId
from csi.units import Bytes

_WAY_OUT = "look at the pool's condition: `thinpool-csi info`"


class ThinPool:
    """An active thin-pool device, made by LVM or by hand. One instance serves all threads.

    Messages raise KernelError with the kernel's errno (EEXIST: the id is taken; ENODATA: no such device or origin;
    ENOSPC, EOPNOTSUPP: the pool takes no messages now), and UnavailableError if the pool is, after the message, in a
    state in which it cannot have been kept.
    """

    def __init__(self, control: Control, name: str) -> None:
        """``name`` is the device-mapper name; nothing is looked at yet."""
        self._control = control
        self.name = name
        self._metadata_snap = threading.Lock()

    @property
    def info(self) -> Info:
        """The device's state. Raise UnavailableError if it is not active."""
        info = self._control.info(self.name)
        if info is None:
            raise UnavailableError("look up pool", self.name, "it is not active", way_out=_WAY_OUT)
        return info

    @property
    def number(self) -> str:
        """``major:minor``, by which tables name it. Raise UnavailableError if it is not active."""
        return self.info.number

    @property
    def table(self) -> ThinPoolTable:
        """The live table."""
        line = self._only(self._control.table(self.name), "read table")
        try:
            return ThinPoolTable.parse(line)
        except ValueError as error:
            raise KernelError("read table", self.name, str(error)) from error

    @property
    def block_size(self) -> Bytes:
        """The size of a thin block."""
        return self.table.block_size

    @property
    def metadata_path(self) -> str:
        """The node of the metadata device, for the thin tools."""
        return block.node(self.table.metadata)

    def status(self, *, flush: bool = False) -> ThinPoolStatus:
        """Return what the pool says about itself; ``flush`` has it commit first, for exact figures.

        The commit also ends the waiting of writers on a full pool for which discards have made room: the kernel does
        not do so by itself. It can take long on a busy or hanging disk, so monitoring goes without.
        """
        line = self._only(self._control.status(self.name, flush=flush), "read status")
        try:
            return ThinPoolStatus.parse(line)
        except ValueError as error:
            raise KernelError("read status", self.name, str(error)) from error

    def create_thin(self, thin: ThinId, *, confirm: bool = True) -> None:
        """Make an empty thin device. EEXIST is passed on: only the caller knows whether it made it before.

        Without ``confirm`` the caller has ``confirm`` look afterwards whether it was kept, for several at once.
        """
        self._change(f"create_thin {thin}", confirm=confirm)

    def create_snap(self, thin: ThinId, origin: ThinId, *, confirm: bool = True) -> None:
        """Cut ``thin`` from ``origin``, which must be suspended if it is active. EEXIST is passed on.

        Without ``confirm`` likewise, once nobody waits for the origin any more.
        """
        self._change(f"create_snap {thin} {origin}", confirm=confirm)

    def delete(self, thin: ThinId) -> None:
        """Delete a thin device that is not active. Its blocks are free at once; no discard is passed down."""
        self._change(f"delete {thin}")

    def set_transaction_id(self, old: int, new: int) -> None:
        """Raise the number in the superblock that guards the pool; EINVAL if it is not ``old`` now."""
        self._change(f"set_transaction_id {old} {new}")

    def reserve_metadata_snap(self) -> None:
        """Keep the metadata as it is now readable for the thin tools. EBUSY: one is kept already."""
        self._change("reserve_metadata_snap")

    def release_metadata_snap(self) -> None:
        """Give it up again. EINVAL: there is none."""
        self._change("release_metadata_snap")

    @contextmanager
    def metadata_snap(self) -> Iterator[int]:
        """Hold a metadata snapshot for the body, for one thread at a time; yield the block of its root.

        One that is there already was left by a process that died (a pool has one server): it is taken away first.
        """
        with self._metadata_snap:
            if self.status().held_root is not None:
                self.release_metadata_snap()
            self.reserve_metadata_snap()
            try:
                yield self.status().held_root or 0
            finally:
                self.release_metadata_snap()

    def confirm(self, text: str) -> None:
        """See that the pool has kept what the message ``text`` changed. Raise UnavailableError."""
        status = self.status()
        if not status.serves:
            state = f"{status.mode}{' needs_check' if status.needs_check else ''}"
            why = f"the pool is {state}: the change may be lost"
            operation = f"send message {text!r}"
            raise UnavailableError(operation, self.name, why, errno=errno.EIO, way_out=_WAY_OUT)

    def _change(self, text: str, *, confirm: bool = True) -> None:
        self._control.message(self.name, text)
        if confirm:
            self.confirm(text)

    def _only(self, lines: list[Line], operation: str) -> Line:
        if len(lines) != 1:
            raise KernelError(operation, self.name, f"one line was expected, not {len(lines)}")
        return lines[0]
