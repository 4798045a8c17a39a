"""What PersistentVolumes and VolumeSnapshotContents say of volumes and snapshots whose catalog was lost."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any, Final

from csi.errors import InvalidRequestError
from csi.model import DRIVER, Claim, FsType, GroupHandle, Handle, Kind
from csi.units import SECTOR, Bytes, parse_size, round_up

_LONGEST_NAME: Final = 128
"""CSI, "Size Limits": a longer one was never in a request."""

Object = Mapping[str, Any]


def claims(objects: Iterable[Object]) -> list[Claim]:
    """Return what those of ``objects`` that are ours say, of each handle once.

    Raise InvalidRequestError for one of ours that cannot be read, and for a handle that is told of in two ways.
    """
    found: dict[Handle, Claim] = {}
    for each in objects:
        try:
            claim = _claim(each)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise InvalidRequestError("read objects", _name(each), f"it is not as the API writes it: {error}") from None
        if claim is None:
            continue
        merged = _merged(found.get(claim.handle, claim), claim)
        if merged is None:
            why = f"another object says something else of {claim.handle}"
            raise InvalidRequestError("read objects", _name(each), why, way_out="leave out the one that is wrong")
        found[claim.handle] = merged
    return list(found.values())


def _claim(each: Object) -> Claim | None:
    match each.get("kind"):
        case "PersistentVolume":
            return _volume(each)
        case "VolumeSnapshotContent":
            return _snapshot(each)
    return None


def _merged(one: Claim, other: Claim) -> Claim | None:
    """Return what two objects say of one handle together, as of a snapshot that is lent to another namespace.

    None where they contradict each other.
    """
    said = [(each.kind, each.fs_type) for each in (one, other)]
    told = {each.source for each in (one, other)} - {None}, {each.group for each in (one, other)} - {None}
    if said[0] != said[1] or any(len(each) > 1 for each in told):
        return None
    # Whoever tells of the source is the object that it was made for.
    first, second = (other, one) if one.source is None else (one, other)
    return replace(
        first,
        size=max(one.size, other.size),
        group=first.group or second.group,
        created=first.created or second.created,
    )


def _volume(volume: Object) -> Claim | None:
    spec = volume["spec"]
    csi = spec.get("csi") or {}
    handle = Handle.parse(csi.get("volumeHandle", "")) if csi.get("driver") == DRIVER else None
    if handle is None:
        return None
    block = spec.get("volumeMode") == "Block"
    return Claim(
        handle=handle,
        kind=Kind.VOLUME,
        # csi-provisioner asks for a volume by the name that its PersistentVolume gets.
        name=_short(volume["metadata"]["name"]),
        size=round_up(parse_size(spec["capacity"]["storage"]), Bytes(SECTOR)),
        fs_type=None if block else FsType(csi.get("fsType") or FsType.EXT4),
    )


def _snapshot(content: Object) -> Claim | None:
    spec, status = content["spec"], content.get("status") or {}
    source = spec.get("source") or {}
    # While it is being cut it has no handle yet, and nobody was told of the snapshot.
    told = status.get("snapshotHandle") or source.get("snapshotHandle") or ""
    handle = Handle.parse(told) if spec.get("driver") == DRIVER else None
    if handle is None:
        return None
    volume = Handle.parse(source.get("volumeHandle", ""))
    group = GroupHandle.parse(status.get("volumeGroupSnapshotHandle") or "")
    uid = (spec.get("volumeSnapshotRef") or {}).get("uid", "")
    return Claim(
        handle=handle,
        kind=Kind.SNAPSHOT,
        # csi-snapshotter asks for a snapshot by the UID of its VolumeSnapshot; members of a group have no names.
        name=_short(f"snapshot-{uid}") if uid and volume is not None and group is None else None,
        size=round_up(Bytes(int(status.get("restoreSize", 0))), Bytes(SECTOR)),
        source=volume,
        group=group.group if group is not None and group.pool == handle.pool else None,
        created=_nanoseconds(status.get("creationTime", 0)),
    )


def _nanoseconds(told: int | str) -> int:
    """Return a moment that the snapshot API tells as a number, and the rest of the API as text."""
    return int(datetime.fromisoformat(told).timestamp()) * 10**9 if isinstance(told, str) else int(told)


def _short(name: str) -> str | None:
    return name if len(name.encode()) <= _LONGEST_NAME else None


def _name(each: Object) -> str:
    try:
        return f"{each['kind']} {each['metadata']['name']}"
    except (KeyError, TypeError):
        return "of no name"
