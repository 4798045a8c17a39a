"""Where a volume's device is mounted, or its node is bound, as the kernel's mount table says."""

from csi.dm.ioctl import Info
from csi.fs import mountinfo


def anywhere(info: Info) -> list[str]:
    """Return every path at which the device's file system is mounted or its node is bound."""
    return [mount.mount_point for mount in mountinfo.users(info.path)]


def elsewhere(info: Info, *known: mountinfo.Mount | None) -> list[str]:
    """Return every such path besides the ``known`` mounts. Mounts are compared: one place has many spellings."""
    here = {mount.mount_point for mount in known if mount is not None}
    return [where for where in anywhere(info) if where not in here]
