"""The handles that a cluster's objects name: what of the nodes' volumes and snapshots somebody still knows of."""

from collections.abc import Iterable

from csi.kube.api import Object
from csi.model import DRIVER


def volume_handle(volume: Object) -> str:
    """Return the handle of a PersistentVolume of ours; '' for another's."""
    csi = volume.get("spec", {}).get("csi") or {}
    return str(csi.get("volumeHandle", "")) if csi.get("driver") == DRIVER else ""


def snapshot_handle(content: Object) -> str:
    """Return the handle of a VolumeSnapshotContent of ours, of its volume while it is being cut; '' for another's."""
    spec = content.get("spec", {})
    if spec.get("driver") != DRIVER:
        return ""
    source = spec.get("source", {})
    known = (content.get("status") or {}).get("snapshotHandle") or source.get("snapshotHandle")
    return str(known or source.get("volumeHandle", ""))


def named(volumes: Iterable[Object], contents: Iterable[Object]) -> frozenset[str]:
    """Return the handles that PersistentVolumes and VolumeSnapshotContents name, '' for what is not ours."""
    return frozenset({*map(volume_handle, volumes), *map(snapshot_handle, contents)})
