"""Devices that are about to be made."""

from csi.catalog.row import Draft
from csi.catalog.store import Catalog
from csi.model import Device, FsState, FsType, Kind, PoolId, State, ThinId
from csi.units import MIB, Bytes

POOL = PoolId("testpool22")
SIZE = Bytes(64 * MIB)


def volume(name: str | None = "v", *, size: Bytes = SIZE, ephemeral: bool = False) -> Draft:
    """Return the draft of a blank volume."""
    return Draft(
        Kind.VOLUME,
        State.CREATING,
        name,
        size,
        fs_state=FsState.UNFORMATTED,
        fs_type=FsType.EXT4,
        ephemeral=ephemeral,
    )


def snapshot(origin: ThinId, name: str | None = "s") -> Draft:
    """Return the draft of a snapshot of a volume in use."""
    return Draft(Kind.SNAPSHOT, State.CUTTING, name, SIZE, origin=origin, fs_state=FsState.FORMATTED)


def made(catalog: Catalog, name: str = "v") -> Device:
    """Record a volume as made."""
    (device,) = catalog.ready(catalog.add([volume(name)], covered=0)[0])
    return device
