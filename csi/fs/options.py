"""Mount options from a request: read with quotes in mind, checked against a list, sorted into flags and data.

The list has what changes how one file system behaves for its own user. Not on it is what reaches other devices
(``device=``, ``logdev=``), weakens the promise of an fsync (``nobarrier``, ``norecovery``) or takes the host along
(``errors=panic``). Meanings: mount(8), ext4(5), xfs(5), btrfs(5).
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Self

from csi.errors import InvalidRequestError
from csi.fs import syscalls
from csi.model import FsType

_COUNT_LIMIT: Final = 128

_ATIME: Final = syscalls.MS_NOATIME | syscalls.MS_RELATIME | syscalls.MS_STRICTATIME
_PER_MOUNT: Final = (
    syscalls.MS_RDONLY
    | syscalls.MS_NOSUID
    | syscalls.MS_NODEV
    | syscalls.MS_NOEXEC
    | syscalls.MS_NOATIME
    | syscalls.MS_NODIRATIME
    | syscalls.MS_RELATIME
    | syscalls.MS_STRICTATIME
)

# What each word sets and what it takes back.
_FLAGS: Final[Mapping[str, tuple[int, int]]] = {
    "defaults": (0, 0),
    "ro": (syscalls.MS_RDONLY, 0),
    "rw": (0, syscalls.MS_RDONLY),
    "nosuid": (syscalls.MS_NOSUID, 0),
    "suid": (0, syscalls.MS_NOSUID),
    "nodev": (syscalls.MS_NODEV, 0),
    "dev": (0, syscalls.MS_NODEV),
    "noexec": (syscalls.MS_NOEXEC, 0),
    "exec": (0, syscalls.MS_NOEXEC),
    "sync": (syscalls.MS_SYNCHRONOUS, 0),
    "async": (0, syscalls.MS_SYNCHRONOUS),
    "dirsync": (syscalls.MS_DIRSYNC, 0),
    "noatime": (syscalls.MS_NOATIME, _ATIME),
    "atime": (0, syscalls.MS_NOATIME),
    "nodiratime": (syscalls.MS_NODIRATIME, 0),
    "diratime": (0, syscalls.MS_NODIRATIME),
    "relatime": (syscalls.MS_RELATIME, _ATIME),
    "strictatime": (syscalls.MS_STRICTATIME, _ATIME),
    "lazytime": (syscalls.MS_LAZYTIME, 0),
    "nolazytime": (0, syscalls.MS_LAZYTIME),
}

_NUMBER: Final = r"[0-9]{1,9}"
_AMOUNT: Final = r"[0-9]{1,9}[kKmMgG]?"
# A label of four parts, whose last may list categories: user:role:type:s0-s0:c0.c1023,c5
_LABEL: Final = r"[A-Za-z0-9_.-]{1,64}(:[A-Za-z0-9_.,-]{1,128}){1,6}"

# The word alone, or the pattern that its value must match in full.
_SELINUX: Final[Mapping[str, str | None]] = {
    "context": _LABEL,
    "fscontext": _LABEL,
    "defcontext": _LABEL,
    "rootcontext": _LABEL,
}
_DATA: Final[Mapping[FsType, Mapping[str, str | None]]] = {
    FsType.EXT4: {
        "acl": None,
        "user_xattr": None,
        "auto_da_alloc": None,
        "noauto_da_alloc": None,
        "commit": _NUMBER,
        "data": "journal|ordered|writeback",
        "delalloc": None,
        "nodelalloc": None,
        "dioread_lock": None,
        "dioread_nolock": None,
        "discard": None,
        "nodiscard": None,
        "errors": "remount-ro|continue",
        "grpquota": None,
        "inode_readahead_blks": _NUMBER,
        "max_batch_time": _NUMBER,
        "min_batch_time": _NUMBER,
        "noquota": None,
        "quota": None,
        "stripe": _NUMBER,
        "usrquota": None,
    },
    FsType.XFS: {
        "allocsize": _AMOUNT,
        "attr2": None,
        "discard": None,
        "nodiscard": None,
        "gquota": None,
        "grpquota": None,
        "inode32": None,
        "inode64": None,
        "largeio": None,
        "nolargeio": None,
        "logbsize": _AMOUNT,
        "logbufs": _NUMBER,
        "noquota": None,
        "nouuid": None,
        "pquota": None,
        "prjquota": None,
        "swalloc": None,
        "uquota": None,
        "usrquota": None,
    },
    FsType.BTRFS: {
        "acl": None,
        "noacl": None,
        "autodefrag": None,
        "noautodefrag": None,
        "commit": _NUMBER,
        "compress": "no|zlib(:[1-9])?|lzo|zstd(:[0-9]{1,2})?",
        "compress-force": "no|zlib(:[1-9])?|lzo|zstd(:[0-9]{1,2})?",
        "datacow": None,
        "nodatacow": None,
        "datasum": None,
        "nodatasum": None,
        "discard": "sync|async",
        "nodiscard": None,
        "flushoncommit": None,
        "noflushoncommit": None,
        "max_inline": _AMOUNT,
        "space_cache": "v2",
        "ssd": None,
        "nossd": None,
        "ssd_spread": None,
        "nossd_spread": None,
        "thread_pool": r"[1-9][0-9]?",
        "user_subvol_rm_allowed": None,
    },
}
# Words that may also stand without the value.
_BARE: Final = frozenset({"compress", "compress-force", "discard"})


@dataclass(frozen=True)
class Options:
    """Mount options that were found good, as mount(2) wants them."""

    flags: int = 0
    """``MS_*``."""
    data: str = ""
    """The rest, joined by commas; values with commas stay in double quotes."""

    @property
    def per_mount(self) -> int:
        """The flags that hold for one mount of the file system alone, and so make sense for a bind."""
        return self.flags & _PER_MOUNT

    @property
    def read_only(self) -> bool:
        """Whether a read-only mount was asked for."""
        return bool(self.flags & syscalls.MS_RDONLY)

    @classmethod
    def parse(cls, fs_type: FsType, options: Sequence[str], *, read_only: bool = False) -> Self:
        """Read the mount flags of a request for a file system of ``fs_type``.

        Each item may hold several options, separated by commas outside double quotes. Of contradicting ones the last
        holds; ``read_only`` stands above all. xfs always gets ``nouuid``: a clone has its source's UUID. An SELinux
        label is dropped where the kernel has no SELinux, as mount(8) drops it. Raise InvalidRequestError, which names
        the option, for any that is not on the list or whose value is malformed.
        """
        flags = 0
        data: dict[str, str] = {}
        words = [word for item in options for word in _split(item)]
        if len(words) > _COUNT_LIMIT:
            raise _bad(words[_COUNT_LIMIT], f"more than {_COUNT_LIMIT} options")
        for word in words:
            if word in _FLAGS:
                sets, clears = _FLAGS[word]
                flags = flags & ~clears | sets
                continue
            key, equals, value = word.partition("=")
            bare = _unquote(value)
            if not _allowed(fs_type, key, bare if equals else None):
                raise _bad(word, f"not an option that may be used with {fs_type}")
            if key in _SELINUX and not _has_selinux():
                continue
            data.pop(key, None)
            data[key] = f'{key}="{bare}"' if "," in bare else f"{key}{equals}{bare}"
        if fs_type is FsType.XFS:
            data["nouuid"] = "nouuid"
        if read_only:
            flags |= syscalls.MS_RDONLY
        return cls(flags, ",".join(data.values()))


def _allowed(fs_type: FsType, key: str, value: str | None) -> bool:
    known = {**_SELINUX, **_DATA[fs_type]}
    if key not in known:
        return False
    pattern = known[key]
    if value is None:
        return pattern is None or key in _BARE
    return pattern is not None and re.fullmatch(pattern, value) is not None


def _split(item: str) -> list[str]:
    """Split at commas that do not stand in double quotes; empty parts are left out."""
    parts = [""]
    quoted = False
    for character in item:
        if character == '"':
            quoted = not quoted
        if character == "," and not quoted:
            parts.append("")
        else:
            parts[-1] += character
    if quoted:
        raise _bad(item, "a double quote is not closed")
    return [part for part in parts if part]


def _unquote(value: str) -> str:
    """Take one pair of quotes off; quotes elsewhere stay, and no pattern allows them."""
    least = 2
    return value[1:-1] if len(value) >= least and value[0] == value[-1] == '"' else value


def _bad(word: str, why: str) -> InvalidRequestError:
    limit = 100
    shown = word if word.isprintable() else repr(word)
    return InvalidRequestError("use mount option", shown if len(shown) <= limit else shown[:limit] + "…", why)


def _has_selinux() -> bool:
    """Tell whether SELinux has a policy: without one the kernel refuses every label (``is_selinux_enabled(3)``)."""
    try:
        with open("/proc/filesystems", encoding="ascii") as file:
            if not any(line.split()[-1:] == ["selinuxfs"] for line in file):
                return False
        with open("/proc/self/attr/current", encoding="utf-8", errors="replace") as file:
            return file.read().rstrip("\0\n") not in ("", "kernel")
    except OSError:
        return False
