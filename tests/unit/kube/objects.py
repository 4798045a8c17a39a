"""Objects of a cluster as kubectl prints them."""

from typing import Any, Final

POOL: Final = "vq3kxnc5ha"
DRIVER: Final = "thinpool-csi.dev"


def persistent_volume(thin: int = 7, **more: object) -> dict[str, Any]:
    """Return a PersistentVolume of a file system; ``more`` are fields of its spec."""
    return {
        "kind": "PersistentVolume",
        "metadata": {"name": f"pvc-{thin}"},
        "spec": {
            "capacity": {"storage": "64Mi"},
            "csi": {"driver": DRIVER, "fsType": "xfs", "volumeHandle": f"{POOL}-{thin:08x}"},
            **more,
        },
    }


def snapshot_content(thin: int = 9, volume: int = 7, **more: object) -> dict[str, Any]:
    """Return a VolumeSnapshotContent of a snapshot that was cut; ``more`` are fields of its status."""
    return {
        "kind": "VolumeSnapshotContent",
        "metadata": {"name": f"snapcontent-{thin}"},
        "spec": {
            "driver": DRIVER,
            "source": {"volumeHandle": f"{POOL}-{volume:08x}"},
            "volumeSnapshotRef": {"uid": f"uid-{thin}"},
        },
        "status": {
            "snapshotHandle": f"{POOL}-{thin:08x}",
            "restoreSize": 67108864,
            "creationTime": 1700000000000000000,
            **more,
        },
    }
