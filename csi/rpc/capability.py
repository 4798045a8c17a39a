"""Volume capabilities: how a caller wants to use a volume, and whether a volume on one node can be used so."""

from collections.abc import Sequence
from typing import Final

from csi.errors import InvalidRequestError
from csi.fs.options import Options
from csi.model import Device, FsState, FsType
from csi.pb.csi.v1 import csi_pb2 as pb
from csi.rpc.validate import invalid, shown
from csi.volumes.requests import Access

_Mode = pb.VolumeCapability.AccessMode

_MODES: Final = frozenset(
    {
        _Mode.SINGLE_NODE_WRITER,
        _Mode.SINGLE_NODE_READER_ONLY,
        _Mode.SINGLE_NODE_SINGLE_WRITER,
        _Mode.SINGLE_NODE_MULTI_WRITER,
    }
)
# CSI 1.13, NodePublishVolume, second table: of the modes for one node only SINGLE_NODE_MULTI_WRITER may be published at
# a second target path. (A kubelet that knows that mode asks for it wherever a claim says ReadWriteOnce.)
_ONE_TARGET: Final = _MODES - {_Mode.SINGLE_NODE_MULTI_WRITER}


class UnsupportedError(InvalidRequestError):
    """A capability that is well formed and that no volume of this driver has, or that does not fit this volume."""


def access(capability: pb.VolumeCapability, field: str = "volume_capability") -> Access:
    """Read one capability.

    Raise InvalidRequestError if it is malformed, and its kind UnsupportedError for what a volume on one node's disks
    cannot be: published on several nodes, another file system than ours, owned by a mount group.
    """
    if not capability.HasField("access_type") or not capability.HasField("access_mode"):
        raise invalid(field, "access_type and access_mode are required")
    mode = capability.access_mode.mode
    if mode == _Mode.UNKNOWN:
        raise InvalidRequestError("check field", f"{field}.access_mode", "is required")
    if mode not in _MODES:
        known = _Mode.Mode.Name(mode) if mode in _Mode.Mode.values() else str(mode)
        raise UnsupportedError("check field", f"{field}.access_mode", f"{known}: a volume lies on one node's disks")
    mount = capability.mount
    if mount.volume_mount_group:
        raise UnsupportedError("check field", f"{field}.mount.volume_mount_group", "mount groups are not supported")
    if any(not flag or "\0" in flag or "\n" in flag for flag in mount.mount_flags):
        # Without its text: flags may be sensitive.
        raise InvalidRequestError(
            "check field", f"{field}.mount.mount_flags", "a flag is empty or holds a control character"
        )
    return Access(
        fs_type=fs_type(mount.fs_type, f"{field}.mount.fs_type"),
        block=capability.HasField("block"),
        mount_flags=tuple(mount.mount_flags),
        single_writer=mode in _ONE_TARGET,
        read_only=mode == _Mode.SINGLE_NODE_READER_ONLY,
    )


def accesses(capabilities: Sequence[pb.VolumeCapability]) -> list[Access]:
    """Read a list of capabilities that one volume must have all of.

    Raise InvalidRequestError if there are none, if one is refused by `access`, or if no volume has all of them.
    """
    field = "volume_capabilities"
    if not capabilities:
        raise invalid(field, "is required")
    wanted = [access(capability, f"{field}[{number}]") for number, capability in enumerate(capabilities)]
    if len({one.block for one in wanted}) > 1:
        raise UnsupportedError("check field", field, "a volume is either a raw block device or a file system")
    if len({one.fs_type for one in wanted if one.fs_type}) > 1:
        raise UnsupportedError("check field", field, "a volume has one file system")
    return wanted


def check_flags(wanted: Sequence[Access], made: FsType) -> None:
    """Raise InvalidRequestError for mount flags that could not be used with ``made``: better now than at stage."""
    for one in wanted:
        if one.mount_flags:
            Options.parse(made, one.mount_flags)


def fs_type(text: str, field: str) -> FsType | None:
    """Read a file system's name; None if none was given. Raise UnsupportedError for one that is not made here."""
    if not text:
        return None
    try:
        return FsType(text)
    except ValueError:
        raise UnsupportedError("check field", field, f"{shown(text)} is not one of {', '.join(FsType)}") from None


def misfit(wanted: Access, device: Device) -> str:
    """Return why ``device`` cannot be used as ``wanted``; '' if it can."""
    if device.fs_state is FsState.UNKNOWN:
        return ""  # After its catalog was rebuilt only a look at the device itself can tell: at stage.
    if wanted.block and device.fs_type is not None:
        return f"{device.handle} has a file system, it is no raw block volume"
    if not wanted.block and device.fs_type is None:
        return f"{device.handle} is a raw block volume, it has no file system"
    if wanted.fs_type not in (None, device.fs_type):
        return f"{device.handle} has {device.fs_type}, not {wanted.fs_type}"
    return ""


def require_fit(wanted: Access, device: Device) -> None:
    """Raise UnsupportedError if ``device`` cannot be used as ``wanted``."""
    why = misfit(wanted, device)
    if why:
        raise UnsupportedError("use volume", str(device.handle), why)
