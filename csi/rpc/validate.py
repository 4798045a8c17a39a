"""What requests have in common: names, paths, ids and sizes, read into the driver's types or refused."""

import re
from collections.abc import Sequence
from typing import Final

from csi.errors import InvalidRequestError, NotFoundError, SizeError
from csi.model import GroupHandle, Handle
from csi.pb.csi.v1 import csi_pb2 as pb
from csi.units import Bytes, format_size

LARGEST: Final = Bytes(1 << 60)
"""1 EiB: no file system here and no pool holds more, and rounding it up still fits the wire's 63 bits."""

_SHOWN: Final = 64
# CSI 1.13, CreateVolumeRequest.name: control characters but for tab, line feed and carriage return.
_BANNED: Final = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")
# The kubelet names an inline volume "csi-" and 64 hexadecimal digits; nothing that could be taken for a path passes.
_EPHEMERAL: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")


def invalid(field: str, why: str) -> InvalidRequestError:
    """Return the error for a field that is missing, malformed or not supported."""
    return InvalidRequestError("check field", field, why)


def shown(text: str) -> str:
    """Return ``text`` as it may stand in a message: quoted, escaped and cut to 64 characters."""
    return repr(text) if len(text) <= _SHOWN else f"{text[:_SHOWN]!r}… ({len(text)} characters)"


def required(text: str, field: str) -> str:
    """Return ``text``; raise InvalidRequestError if it is empty."""
    if not text:
        raise invalid(field, "is required")
    return text


def name(text: str, field: str = "name") -> str:
    """Return a name; raise InvalidRequestError if it is missing or holds characters that the specification bans."""
    if _BANNED.search(required(text, field)):
        raise invalid(field, f"{shown(text)} holds control characters")
    return text


def path(text: str, field: str) -> str:
    """Return a path; raise InvalidRequestError unless it is absolute, with no NUL and no ``..`` in it."""
    if not is_path(required(text, field)):
        raise invalid(field, f"{shown(text)} is not an absolute path free of '..'")
    return text


def is_path(text: str) -> bool:
    """Tell whether ``text`` is an absolute path with no NUL and no ``..``."""
    return text.startswith("/") and "\0" not in text and ".." not in text.split("/")


def volume_id(text: str, field: str = "volume_id") -> Handle:
    """Read a volume id: InvalidRequestError if it is missing, NotFoundError if this driver cannot have given it out."""
    return _handle(text, field, "volume")


def snapshot_id(text: str, field: str = "snapshot_id") -> Handle:
    """Read a snapshot id: InvalidRequestError if it is missing, NotFoundError if it cannot be one of ours."""
    return _handle(text, field, "snapshot")


def group_id(text: str) -> GroupHandle:
    """Read a group snapshot id: InvalidRequestError if it is missing, NotFoundError if it cannot be one of ours."""
    handle = GroupHandle.parse(required(text, "group_snapshot_id"))
    if handle is None:
        raise _foreign("group snapshot", text)
    return handle


def members(texts: Sequence[str]) -> list[Handle]:
    """Read the snapshots that a caller takes for a group's: at least one, each once, each an id of ours.

    Everything else is a mismatch with the group and InvalidRequestError (CSI: "Snapshot list mismatch").
    """
    if not texts:
        raise invalid("snapshot_ids", "is required")
    handles = []
    for text in texts:
        handle = Handle.parse(text)
        if handle is None or handle in handles:
            raise invalid("snapshot_ids", f"{shown(text)} is not a member of the group, or is named twice")
        handles.append(handle)
    return handles


def ephemeral_id(text: str) -> str:
    """Return the id of an inline volume, which the caller made up; raise InvalidRequestError if it cannot be one."""
    if not _EPHEMERAL.fullmatch(required(text, "volume_id")) or Handle.parse(text):
        raise invalid("volume_id", f"{shown(text)} cannot name an ephemeral volume (letters, digits, '.', '_', '-')")
    return text


def published_id(text: str) -> str:
    """Return an id that may have been published, a handle or an inline volume's; else raise NotFoundError."""
    if not _EPHEMERAL.fullmatch(required(text, "volume_id")):
        raise _foreign("volume", text)
    return text


def capacity(given: pb.CapacityRange, field: str = "capacity_range") -> tuple[Bytes, Bytes]:
    """Return the least and the greatest size that will do; 0 where none was given.

    Raise InvalidRequestError for a negative size or a range with nothing in it, SizeError beyond what can exist.
    """
    least, most = given.required_bytes, given.limit_bytes
    for key, value in (("required_bytes", least), ("limit_bytes", most)):
        if value < 0:
            raise InvalidRequestError("check field", f"{field}.{key}", f"{value} is negative")
    if most and least > most:
        raise invalid(field, f"nothing is at least {least} and at most {most} bytes")
    if least > LARGEST:
        raise SizeError("check field", f"{field}.required_bytes", f"{least} bytes exceed {format_size(LARGEST)}")
    return Bytes(least), Bytes(most)


def _handle(text: str, field: str, kind: str) -> Handle:
    handle = Handle.parse(required(text, field))
    if handle is None:
        raise _foreign(kind, text)
    return handle


def _foreign(kind: str, text: str) -> NotFoundError:
    return NotFoundError(f"find {kind}", shown(text), "not an id that this driver gives out")
