"""What a row becomes when the catalog is made to agree with its pool."""

from dataclasses import replace

from csi.model import Device, FsState, Kind, State
from csi.units import Bytes


def reconcile(device: Device, present: Bytes | None, *, unsure: bool) -> tuple[Device | None, list[str]]:
    """Return what the catalog shall say of a device (None: nothing), and what that changes, a line each.

    ``present`` is the least size that the pool's device of this id can have, None if the pool has none. ``unsure`` says
    that the device is of a group that may not be of one point in time.
    """
    if device.state is State.DELETING:
        return device, []
    if device.kind is Kind.TEMPLATE:
        # Nobody's data, and not worth a doubt: those who need one make it anew.
        gone = None if present is None else replace(device, state=State.DELETING)
        return gone, [f"{device.handle}: a template of a fresh file system, dropped"]
    if present is None:
        return _missing(device)
    if unsure or device.state is State.CUTTING:
        stranger = replace(device, kind=Kind.QUARANTINED, state=State.READY, name=None, group=None)
        return stranger, [f"{device.handle}: its point in time is not known, quarantined"]
    said = []
    if device.state is not State.READY:
        device = replace(device, state=State.READY)
        said.append(f"{device.handle}: in the pool, taken as {State.READY}")
    if device.fs_state in (FsState.UNFORMATTED, FsState.FORMATTING):
        device = replace(device, fs_state=FsState.UNKNOWN)
        said.append(f"{device.handle}: may have been formatted since, will be used as it is")
    if device.fs_state is FsState.FRESH:
        device = replace(device, fs_state=FsState.FORMATTED)
        said.append(f"{device.handle}: may have been used since, will be checked first")
    if present > device.size:
        said.append(f"{device.handle}: holds data beyond {device.size} bytes, size raised to {present}")
        device = replace(device, size=present)
    return device, said


def _missing(device: Device) -> tuple[Device | None, list[str]]:
    if device.state in (State.CREATING, State.CUTTING):
        return None, [f"{device.handle}: was never made, dropped"]
    if device.state is State.LOST:
        return device, []
    return replace(device, state=State.LOST), [f"{device.handle}: not in the pool, its data is lost"]
