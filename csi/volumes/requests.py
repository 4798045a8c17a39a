"""What a caller asks of the volumes layer, free of gRPC."""

from dataclasses import dataclass

from csi.model import FsType, Handle
from csi.units import Bytes


@dataclass(frozen=True)
class VolumeRequest:
    """A volume that is wanted."""

    name: str
    required: Bytes = Bytes(0)
    """The least size; 0 leaves it to the pool's default volume size, or to the source's size."""
    limit: Bytes = Bytes(0)
    """The greatest size; 0 for none."""
    pool: str | None = None
    """The pool's name; None where the node has only one, or where the source decides."""
    block: bool = False
    """A raw block volume, with no file system of ours."""
    fs_type: FsType | None = None
    """None leaves it to the source, and without one to ext4."""
    mkfs_profile: str = "auto"
    source: Handle | None = None
    """The snapshot or volume whose content it starts with."""
    ephemeral: bool = False


@dataclass(frozen=True)
class Access:
    """How a volume is to be used on this node (CSI ``VolumeCapability``)."""

    fs_type: FsType | None = None
    """None: what the volume was created with."""
    block: bool = False
    mount_flags: tuple[str, ...] = ()
    single_writer: bool = False
    """One target path at a time: every mode for one node but SINGLE_NODE_MULTI_WRITER."""
    read_only: bool = False
    """One of the READER_ONLY modes."""
