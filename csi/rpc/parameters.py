"""The parameters of a storage class, the attributes of an inline volume, and the context that comes back with a volume.

A key that nobody reads is an error, or a typing mistake would silently give another volume than the one wanted. Keys
that Kubernetes adds of its own accord are the exception.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from csi.errors import InvalidRequestError, SizeError
from csi.model import FsType
from csi.pb.csi.v1 import csi_pb2 as pb
from csi.rpc.capability import fs_type
from csi.rpc.validate import LARGEST, invalid, shown
from csi.units import Bytes, format_size, parse_size

_CSI: Final = "csi.storage.k8s.io/"
_FS_TYPE: Final = f"{_CSI}fstype"
_EPHEMERAL: Final = f"{_CSI}ephemeral"
# csi-provisioner keeps its own mark in every volume's context, the kubelet adds the pod's name and the like.
_KUBERNETES: Final = (_CSI, "storage.kubernetes.io/")

_POOL: Final = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
_PROFILE: Final = re.compile(r"auto|[0-9]{1,3}\.[0-9]{1,3}")


@dataclass(frozen=True)
class Parameters:
    """What a storage class, or an inline volume, says about its volumes."""

    pool: str | None = None
    fs_type: FsType | None = None
    mkfs_profile: str = "auto"
    size: Bytes = Bytes(0)
    """For an inline volume; 0 for the pool's default size."""


def of_class(given: Mapping[str, str], field: str = "parameters") -> Parameters:
    """Read a storage class's parameters. Raise InvalidRequestError for an unknown key or a value that cannot be."""
    _refuse_unknown(given, ("pool", "mkfsProfile"), field, (_CSI,))
    return Parameters(_pool(given, field), fs_type(given.get(_FS_TYPE, ""), _FS_TYPE), _profile(given, field))


def of_inline(given: Mapping[str, str], field: str = "volume_context") -> Parameters:
    """Read an inline volume's attributes. Raise InvalidRequestError as `of_class`, SizeError beyond what can exist."""
    _refuse_unknown(given, ("pool", "mkfsProfile", "fstype", "size"), field, _KUBERNETES)
    size = Bytes(0)
    if "size" in given:
        try:
            size = parse_size(given["size"])
        except ValueError as error:
            raise InvalidRequestError("check field", f"{field}.size", str(error)) from None
        if size == 0:
            raise InvalidRequestError("check field", f"{field}.size", "is 0")
        if size > LARGEST:
            raise SizeError("check field", f"{field}.size", f"exceeds {format_size(LARGEST)}")
    return Parameters(
        _pool(given, field), fs_type(given.get("fstype", ""), f"{field}.fstype"), _profile(given, field), size
    )


def is_inline(context: Mapping[str, str]) -> bool:
    """Tell whether a publish request is for an inline volume. Raise InvalidRequestError if its mark is neither."""
    mark = context.get(_EPHEMERAL, "false")
    if mark not in ("true", "false"):
        raise InvalidRequestError("check field", f"volume_context[{_EPHEMERAL}]", "must be true or false")
    return mark == "true"


def refuse(given: Mapping[str, str], field: str) -> None:
    """Refuse (InvalidRequestError) every key but those that Kubernetes adds: there are no such parameters here."""
    _refuse_unknown(given, (), field, _KUBERNETES)


def refuse_all(given: Mapping[str, str], field: str, why: str) -> None:
    """Refuse (InvalidRequestError) a map that must be empty."""
    if given:
        raise invalid(field, why)


def no_mutable(request: pb.CreateVolumeRequest | pb.ValidateVolumeCapabilitiesRequest) -> None:
    """Refuse (InvalidRequestError) mutable parameters, which belong to the capability MODIFY_VOLUME."""
    refuse_all(request.mutable_parameters, "mutable_parameters", "no parameter can be changed later")


def _refuse_unknown(given: Mapping[str, str], known: Iterable[str], field: str, ignored: tuple[str, ...]) -> None:
    for key in sorted(given):
        if key not in known and not key.startswith(ignored):
            names = ", ".join((*known, _FS_TYPE)) if known and field == "parameters" else ", ".join(known) or "none"
            raise invalid(field, f"unknown key {shown(key)} (known: {names})")


def _pool(given: Mapping[str, str], field: str) -> str | None:
    name = given.get("pool")
    if name is not None and not _POOL.fullmatch(name):
        raise InvalidRequestError("check field", f"{field}.pool", f"{shown(name)} is not the name of a pool")
    return name


def _profile(given: Mapping[str, str], field: str) -> str:
    profile = given.get("mkfsProfile", "auto")
    if not _PROFILE.fullmatch(profile):
        raise InvalidRequestError(
            "check field", f"{field}.mkfsProfile", f"{shown(profile)} is neither 'auto' nor a kernel version like 5.15"
        )
    return profile
