"""The errors of the driver's own domain.

Each names the operation, the object, the errno where the kernel gave one, and the way out. They carry no gRPC: the
one table that maps these types to status codes is in csi/rpc/status.py.
"""

import errno as errno_names
import os


class DriverError(Exception):
    """Something that the driver was asked for and did not do; ``str()`` is one line fit for a user.

    ``operation`` says what was tried, ``subject`` on what, ``why`` what stood in the way, ``errno`` the kernel's number
    (0: none) and ``way_out`` what a person can do about it.
    """

    def __init__(self, operation: str, subject: str, why: str, *, errno: int = 0, way_out: str = "") -> None:
        super().__init__(operation, subject, why)
        self.operation = operation
        self.subject = subject
        self.why = why
        self.errno = errno
        self.way_out = way_out

    def __str__(self) -> str:
        """One line: operation, subject, reason, errno, way out."""
        text = f"{self.operation} {self.subject}: {self.why}" if self.subject else f"{self.operation}: {self.why}"
        if self.errno:
            text += f" ({errno_names.errorcode.get(self.errno, self.errno)}: {os.strerror(self.errno)})"
        if self.way_out:
            text += f"; {self.way_out}"
        return text


class InvalidRequestError(DriverError):
    """A field is missing, malformed or not supported; the request can never work as it is."""


class NotFoundError(DriverError):
    """The volume, snapshot, group or path does not exist here."""


class ExistsError(DriverError):
    """The name is taken by something that does not fit this request."""


class SizeError(DriverError):
    """A size or a page lies outside what can be had (CSI: OUT_OF_RANGE)."""


class BusyError(DriverError):
    """Another operation on the same object is under way; the same request may be sent again later (CSI: ABORTED)."""


class PageTokenError(DriverError):
    """A list's starting token is not one that this node gave out (CSI: ABORTED)."""


class StateError(DriverError):
    """The object is in a state that rules the operation out until somebody changes it (CSI: FAILED_PRECONDITION)."""


class NoSpaceError(DriverError):
    """The pool has too little data or metadata space left, or the limits set for it are reached."""


class PlacementError(DriverError):
    """The request wants the object on nodes of which this is none (CSI: RESOURCE_EXHAUSTED)."""


class UnavailableError(DriverError):
    """The pool cannot serve now (not started, read-only, behind its catalog); it may later."""


class KernelUnfitError(UnavailableError):
    """The kernel lacks what a pool needs."""


class DisksMissingError(UnavailableError):
    """Some of the pool's disks are not there."""


class DiskHangsError(UnavailableError):
    """A disk does not answer, not even with an error."""


class PoolGoneError(UnavailableError):
    """The pool that was here is not on its disks any more; another is not made in its place."""


class NeedsRepairError(UnavailableError):
    """The pool's metadata is damaged, or could not be written; nothing is repaired by itself."""


class DataLossError(DriverError):
    """What should hold data does not; nothing is formatted or repaired by itself."""


class KernelError(DriverError):
    """A system call failed in a way that no rule here foresees; ``errno`` says how."""


class CommandError(DriverError):
    """A program that was run failed, ran out of time or answered nonsense."""


class DevicesRefusedError(DriverError):
    """A disk is not blank, or not ours, and is left alone."""


class NoDevicesError(DevicesRefusedError):
    """None of the disks that were named is there."""


class ForeignPoolError(DriverError):
    """A pool belongs to another node and is not named in ``adopt``."""


class PoolBusyError(DriverError):
    """Another process serves the pool."""
