"""Ephemeral inline volumes: made, mounted and deleted with the pod that names them."""

from csi.errors import DriverError, StateError
from csi.failpoint import hit
from csi.model import Handle, Kind
from csi.volumes import mounts, staging, volume
from csi.volumes.pool import PATIENCE, Pool
from csi.volumes.requests import Access, VolumeRequest


def publish(pool: Pool, target: str, request: VolumeRequest, access: Access) -> None:
    """Make the volume that ``request`` names and mount it at ``target``; again does nothing.

    Raise what creation and staging raise. A start after a crash takes back what was never handed out.
    """
    operation = "publish ephemeral volume"
    pool.root.split(target)
    with pool.claims.claim(operation, ("ephemeral", request.name), target):
        known = pool.catalog.named(Kind.VOLUME, request.name, ephemeral=True)
        device = volume.create(pool, request)
        hit("ephemeral.after-create")
        thin = pool.device(device.handle.thin)
        try:
            with pool.claims.claim(operation, device.handle):
                if elsewhere := _elsewhere(pool, device.handle, target):
                    raise StateError(operation, request.name, f"it is published at {elsewhere[0]} already")
                staging.mount_volume(pool, device, target, access, create=True)
        except DriverError:
            # Nobody need call unpublish for what was never published: what this call made goes with its error.
            if known is None and thin.info() is None:
                volume.delete(pool, [device.handle], Kind.VOLUME, operation)
            raise
        hit("ephemeral.after-mount")


def unpublish(pool: Pool, volume_id: str, target: str) -> bool:
    """Unmount the ephemeral volume and delete it; return whether there was one."""
    operation = "unpublish ephemeral volume"
    pool.root.split(target)
    with pool.claims.claim(operation, ("ephemeral", volume_id), target):
        device = pool.catalog.named(Kind.VOLUME, volume_id, ephemeral=True)
        if device is None:
            return False
        with pool.claims.claim(operation, device.handle):
            if elsewhere := _elsewhere(pool, device.handle, target):
                # It could not be deleted, so it stays here too.
                raise StateError(operation, volume_id, f"it is also at {elsewhere[0]}", way_out="unmount it there")
            staging.take_away(pool, device.handle, target)
            hit("ephemeral.after-unmount")
            with pool.turns.turn(operation, device.handle.thin, patience=PATIENCE):
                pool.device(device.handle.thin).deactivate()
            hit("ephemeral.after-deactivate")
        volume.delete(pool, [device.handle], Kind.VOLUME, operation)
    return True


def leave(pool: Pool, volume_id: str, target: str) -> bool:
    """Unmount what a rebuild of the catalog has put into quarantine from ``target``; return whether it was there.

    Whose it was nobody knows any more, and it keeps what it holds.
    """
    operation = "unpublish ephemeral volume"
    with pool.claims.claim(operation, ("ephemeral", volume_id), target):
        there = pool.root.mounted(target)
        for device in pool.catalog.devices(kind=Kind.QUARANTINED):
            thin = pool.device(device.handle.thin)
            info = thin.info()
            if there is None or info is None or not there.is_of(info.path):
                continue
            staging.take_away(pool, device.handle, target)
            with pool.turns.turn(operation, device.handle.thin, patience=PATIENCE):
                thin.deactivate()
            return True
    return False


def _elsewhere(pool: Pool, handle: Handle, target: str) -> list[str]:
    """Return where the volume is mounted besides ``target``."""
    info = pool.device(handle.thin).info()
    return mounts.elsewhere(info, pool.root.mounted(target)) if info is not None else []
