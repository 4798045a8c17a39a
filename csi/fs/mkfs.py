"""Making file systems that the kernel which is to mount them can mount.

The tools of the image are newer than many a node's kernel, and by default they use what only new kernels know:

- ext4: one explicit set of features, all known since Linux 3.18 (fs/ext4/ext4.h, ``EXT4_FEATURE_*``), whatever
  mke2fs.conf says.
- xfs: the profile ``lts_MAJOR.MINOR.conf`` that xfsprogs ships, the newest that is not newer than the kernel in
  question. Its settings are given as options, not by ``-c``: those of xfsprogs 6.1 (Debian 12) have ``nrext64`` in a
  section where that very mkfs.xfs refuses it.
- btrfs: mkfs.btrfs's defaults less those that came with a later kernel, by its own list (``-O list-all``).
"""

import functools
import os
import re
from typing import Final

from csi.errors import CommandError, InvalidRequestError, StateError
from csi.fs.check import probe
from csi.model import FsType
from csi.process import run
from csi.units import MIB, Bytes

AUTO: Final = "auto"
"""The profile that means the running kernel."""

MINIMUM: Final = {
    FsType.EXT4: Bytes(16 * MIB),  # with 4-KiB blocks and a journal of 1,024 of them
    FsType.XFS: Bytes(300 * MIB),  # mkfs.xfs(8): smaller ones are refused
    FsType.BTRFS: Bytes(128 * MIB),  # mkfs.btrfs asks for 109 MiB with duplicated metadata
}

_DEADLINE: Final = 300.0
_LIST_DEADLINE: Final = 10.0
_XFS_PROFILES: Final = "/usr/share/xfsprogs/mkfs"
_PROFILE: Final = re.compile(r"([0-9]{1,3})\.([0-9]{1,3})")
_RELEASE: Final = re.compile(r"([0-9]+)\.([0-9]+)")
_BTRFS_FEATURE: Final = re.compile(r"^(\S+) .*\(compat=([0-9]+)\.([0-9]+)[^)]*default=", re.MULTILINE)
_XFS_CONF: Final = re.compile(r"lts_([0-9]+)\.([0-9]+)\.conf")
_EXT4_FEATURES: Final = (
    "none,has_journal,ext_attr,resize_inode,dir_index,filetype,extent,64bit,flex_bg,sparse_super,large_file,huge_file,"
    "dir_nlink,extra_isize,metadata_csum"
)

Kernel = tuple[int, int]


def minimum_size(fs_type: FsType) -> Bytes:
    """Return the smallest device on which ``fs_type`` is made here."""
    return MINIMUM[fs_type]


def minimum_grown(fs_type: FsType | None) -> Bytes:
    """Return the smallest size that a file system can be grown to.

    A btrfs is resized to 256 MiB or more, whatever it was made with (fs/btrfs/ioctl.c, ``btrfs_ioctl_resize``).
    """
    return Bytes(256 * MIB) if fs_type is FsType.BTRFS else Bytes(0)


@functools.lru_cache(maxsize=64)
def kernel_of(profile: str) -> Kernel:
    """Return the oldest kernel that is to mount the file system: major and minor.

    ``profile`` is ``auto`` (the running kernel) or ``MAJOR.MINOR``. Raise InvalidRequestError for anything else.
    """
    release = os.uname().release if profile == AUTO else profile
    match = _RELEASE.match(release) if profile == AUTO else _PROFILE.fullmatch(profile)
    if match is None:
        raise InvalidRequestError("use mkfsProfile", repr(profile[:40]), "neither 'auto' nor a kernel such as '5.15'")
    return int(match[1]), int(match[2])


def make(device: str, fs_type: FsType, *, profile: str = AUTO) -> None:
    """Make a file system of ``fs_type`` on the block device ``device``.

    The device must read as zeros all over, as a fresh or wholly discarded thin device does: nothing is discarded and
    ext4's inode tables are not zeroed again, so that they take no space. It is looked at once more right before: raise
    StateError if anything is there. Raise InvalidRequestError for a profile that the tools cannot serve, CommandError
    if the tool fails; what it has written by then is for the caller to discard.
    """
    argv = [*command(fs_type, kernel_of(profile)), device]
    found = probe(device)
    if not found.blank:
        raise StateError("make file system on", device, f"it holds {found.name}", way_out="nothing was written to it")
    run(argv, deadline=_DEADLINE)


@functools.lru_cache(maxsize=64)
def command(fs_type: FsType, kernel: Kernel) -> tuple[str, ...]:
    """Return the tool and its options, less the device, for what ``kernel`` can mount. It is remembered.

    Raise InvalidRequestError, CommandError.
    """
    # No tool is given its -f/-F: a signature that the probe did not know is theirs to refuse.
    if fs_type is FsType.EXT4:
        extended = "nodiscard,lazy_itable_init=1,assume_storage_prezeroed=1"
        geometry = ["-b", "4096", "-I", "256", "-m", "0"]
        return ("mkfs.ext4", "-q", "-O", _EXT4_FEATURES, "-E", extended, *geometry)
    if fs_type is FsType.XFS:
        return ("mkfs.xfs", "-q", "-K", *_xfs_options(_xfs_profile(kernel)))
    without = ",".join(f"^{feature}" for feature in _btrfs_too_new(kernel))
    return ("mkfs.btrfs", "-q", "-K", *(("-O", without) if without else ()))


def _btrfs_too_new(kernel: Kernel) -> list[str]:
    """Return what mkfs.btrfs would switch on though ``kernel`` does not know it."""
    listed = run(["mkfs.btrfs", "-O", "list-all"], deadline=_LIST_DEADLINE)
    features = _BTRFS_FEATURE.findall(listed.stdout + listed.stderr)
    return [name for name, major, minor in features if (int(major), int(minor)) > kernel]


def _xfs_options(profile: str) -> list[str]:
    """Return the settings of a profile as options of the command line (mkfs.xfs(8))."""
    # Only here: most volumes are of another kind.
    import configparser  # noqa: PLC0415

    parser = configparser.ConfigParser(interpolation=None)
    try:
        with open(profile, encoding="utf-8") as file:
            parser.read_file(file)
    except (OSError, UnicodeDecodeError, configparser.Error) as error:
        raise CommandError("read the profile of mkfs.xfs", profile, str(error)) from error
    options: dict[str, list[str]] = {}
    for section in parser.sections():
        for name, value in parser.items(section):
            option = "i" if name == "nrext64" else section[0]
            options.setdefault(option, []).append(f"{name}={value}")
    return [word for option, settings in options.items() for word in (f"-{option}", ",".join(settings))]


def _xfs_profile(kernel: Kernel) -> str:
    try:
        names = os.listdir(_XFS_PROFILES)
    except OSError as error:
        raise CommandError(
            "make xfs with the profiles in", _XFS_PROFILES, "they are missing", errno=error.errno or 0
        ) from error
    known = {(int(match[1]), int(match[2])): name for name in names if (match := _XFS_CONF.fullmatch(name))}
    usable = [version for version in known if version <= kernel]
    if not usable:
        oldest = "{}.{}".format(*min(known)) if known else "none"
        raise InvalidRequestError(
            "make xfs for kernel",
            "{}.{}".format(*kernel),
            f"the oldest profile of mkfs.xfs is {oldest}",
            way_out="choose ext4, or set mkfsProfile to that profile if the kernel has its features",
        )
    return os.path.join(_XFS_PROFILES, known[max(usable)])
