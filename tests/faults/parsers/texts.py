"""The parsers of text: of the kernel's, of programs', of files, of requests. Each with samples of the real thing."""

import contextlib
import json
import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, cast

from csi.agent.leader import listed_changes
from csi.dm.targets import Line, Linear, Thin, ThinPoolStatus, ThinPoolTable, ThinStatus
from csi.errors import DriverError, InvalidRequestError, PageTokenError
from csi.fs import mkfs, mountinfo
from csi.fs.options import Options
from csi.fs.paths import Root
from csi.lvm import disks, values
from csi.model import FsType, GroupHandle, Handle
from csi.rpc import parameters
from csi.rpc.pages import Page
from csi.settings import load_pools
from csi.units import Sectors, format_size, parse_size

Parse = Callable[[bytes], object]


@dataclass(frozen=True)
class Parser:
    """What reads bytes from outside, and what it may raise."""

    read: Parse
    raises: tuple[type[Exception], ...] = ()
    samples: Sequence[bytes] = field(default=())


def _text(data: bytes) -> str:
    return data.decode(errors="replace")


def _line(data: bytes) -> Line:
    start, _, params = _text(data).partition(" ")
    return Line(Sectors(len(start) % 2), Sectors(4096), _TARGETS[len(data) % len(_TARGETS)], params)


_TARGETS: Final = ("linear", "thin", "thin-pool")


def _table(kind: type[Linear | Thin | ThinPoolTable], target: str) -> Parse:
    def read(data: bytes) -> None:
        parsed = kind.parse(Line(Sectors(0), Sectors(4096), target, _text(data)))
        assert kind.parse(parsed.line()) == parsed

    return read


def _status(kind: type[ThinPoolStatus | ThinStatus], target: str) -> Parse:
    return lambda data: kind.parse(Line(Sectors(0), Sectors(4096), target, _text(data)))


def _any_line(data: bytes) -> None:
    """Read a line of any target as one of every kind."""
    line = _line(data)
    for kind in (Linear, Thin, ThinPoolTable, ThinPoolStatus, ThinStatus):
        with contextlib.suppress(ValueError):
            kind.parse(line)


def _mount_point(data: bytes) -> None:
    """Write a line as the kernel does, with blank, tab, line feed and backslash escaped; it is read as it was meant."""
    wanted = os.fsdecode(b"/" + data.replace(b"\0", b""))
    escaped = "".join(f"\\{ord(each):03o}" if each in " \t\n\\" else each for each in wanted)
    text = f"{_MOUNTED % escaped}\n{_MOUNTED % '/after'}\n"
    assert [each.mount_point for each in mountinfo.parse(text)] == [wanted, "/after"]


def _disk_mounts(data: bytes) -> None:
    """The same, as it is asked whether a disk is mounted."""
    with tempfile.TemporaryDirectory() as proc:
        (Path(proc) / "self").mkdir()
        escaped = data.replace(b"\0", b"").replace(b"\\", b"\\134").replace(b" ", b"\\040").replace(b"\n", b"\\012")
        line = (_MOUNTED % "/@").encode().replace(b"@", escaped.replace(b"\t", b"\\011"))
        (Path(proc) / "self/mountinfo").write_bytes(line + b"\n")
        assert len(disks._mounts("254:3", Path(proc))) == 1


_MOUNTED: Final = "93 22 254:3 / %s rw,relatime shared:1 - ext4 /dev/dm-3 rw"


def _pools(data: bytes) -> None:
    with tempfile.NamedTemporaryFile() as file:
        file.write(data)
        file.flush()
        load_pools(Path(file.name))


def _handle(data: bytes) -> None:
    text = _text(data)
    for kind in (Handle, GroupHandle):
        parsed = kind.parse(text)
        assert parsed is None or str(parsed) == text


def _size(data: bytes) -> None:
    size = parse_size(_text(data))
    assert size >= 0
    format_size(size)


def _path(data: bytes) -> None:
    text = os.fsdecode(data)
    parts = Root("/var/lib/kubelet").split(text)
    assert parts
    assert not {"", ".", ".."} & {*parts}
    assert os.path.normpath(text).lstrip("/").startswith("var/lib/kubelet/")


def _options(data: bytes) -> None:
    for fs_type in FsType:
        Options.parse(fs_type, _text(data).split("\n"))


def _page(data: bytes) -> None:
    Page.read("volumes", 0, _text(data))


def _map(read: Callable[[Mapping[str, str]], object]) -> Parse:
    def parse(data: bytes) -> None:
        pairs = (line.partition("=")[::2] for line in _text(data).split("\n"))
        read(dict(pairs))

    return parse


def _inline(given: Mapping[str, str]) -> None:
    parameters.is_inline(given)
    parameters.of_inline(given)


_REPORT: Final[Any] = {
    "report": [
        {
            "vg": [
                {
                    "vg_name": "thinpool-aaaaaaaaaa",
                    "vg_uuid": "u",
                    "vg_systemid": "thinpool-csi.node-a",
                    "vg_tags": "thinpool-csi,pool=aaaaaaaaaa",
                    "vg_extent_size": "4194304",
                    "vg_extent_count": "2047",
                    "vg_free_count": "12",
                    "vg_missing_pv_count": "0",
                }
            ],
            "pv": [
                {
                    "pv_name": "/dev/ubda",
                    "pv_uuid": "v",
                    "pv_major": "98",
                    "pv_minor": "0",
                    "pv_size": "8589934592",
                    "pv_free": "0",
                    "pv_missing": "",
                    "pv_in_use": "used",
                    "pv_duplicate": "",
                }
            ],
            "lv": [
                {
                    "lv_name": "pool",
                    "lv_uuid": "w",
                    "lv_size": "4194304",
                    "lv_tags": "",
                    "lv_layout": "thin,pool",
                    "lv_active": "active",
                    "lv_kernel_minor": "3",
                    "lv_health_status": "",
                    "lv_check_needed": "",
                    "lv_when_full": "queue",
                }
            ],
            "seg": [{"lv_uuid": "w", "chunk_size": "65536"}],
        }
    ]
}
_DEEP: Final = b"[" * 6000
_POOLS: Final = (
    b"pools:\n  - name: default\n    devices: [/dev/ubda]\n    overprovisionRatio: 20\n    blockSize: 64Ki\n",
    b"pools:\n  - name: small\n    mode: loop-lvm\n    loop: {dataSize: 1Gi, metadataSize: 1Gi}\n    whenFull: wait\n",
    b"pools:\n- {name: a, devices: {minSize: 1Gi, rotational: no, model: 'x*'}, adopt: [aaaaaaaaaa], trim: daily}\n",
    b"pools:\n- {name: a, devices: [/dev/x], thinpPercent: 1" + b"0" * 400 + b"}\n",
    b"pools: !!timestamp 9999-12-31T23:59:59-23:00\nx: 2001-99-99\ny: !!int ''\nz: !!bool x\n",
)

PARSERS: Final[Mapping[str, Parser]] = {
    "linear-table": Parser(_table(Linear, "linear"), (ValueError,), [b"98:0 2048", b"/dev/ubda 0"]),
    "thin-table": Parser(_table(Thin, "thin"), (ValueError,), [b"253:2 7"]),
    "pool-table": Parser(
        _table(ThinPoolTable, "thin-pool"),
        (ValueError,),
        [b"253:0 253:1 128 100 1 error_if_no_space", b"253:0 253:1 128 0 2 skip_block_zeroing ignore_discard"],
    ),
    "pool-status": Parser(
        _status(ThinPoolStatus, "thin-pool"),
        (ValueError,),
        [b"1 141/8192 12/65536 - rw discard_passdown queue_if_no_space - 1024", b"Fail", b"Error"],
    ),
    "thin-status": Parser(_status(ThinStatus, "thin"), (ValueError,), [b"2048 4095", b"0 -", b"Fail", b"-"]),
    "any-line": Parser(_any_line, (), [b"x 98:0 2048"]),
    "lvm-report": Parser(
        lambda data: values.parse_report(_text(data)), (ValueError,), [json.dumps(_REPORT).encode(), _DEEP]
    ),
    "lvm-doubled": Parser(
        lambda data: values.parse_doubled(_text(data)), (ValueError,), [json.dumps(_REPORT).encode(), _DEEP]
    ),
    "mountinfo": Parser(
        lambda data: mountinfo.parse(data.decode(errors="surrogateescape")), (ValueError,), [(_MOUNTED % "/a").encode()]
    ),
    "mount-point": Parser(_mount_point, (), [b"var/lib/kubelet/a b", b"\\040", "\r\x0b\x1c\x85\u2028".encode()]),
    "disk-mounts": Parser(_disk_mounts, (), [b"var/lib/kubelet", "\xff\r\u2028".encode(), b"\xff"]),
    "handle": Parser(_handle, (), [b"aaaaaaaaaa-00000001", b"aaaaaaaaaa-g00000001"]),
    "size": Parser(_size, (ValueError,), [b"10Gi", b"1.5Ti", b"100 GiB", b"0", "\u0663Gi".encode()]),
    "pools-file": Parser(_pools, (InvalidRequestError,), [*_POOLS, _DEEP]),
    "pools-list": Parser(
        lambda data: listed_changes(_text(data), cast("Any", {"a": {"spec": {"mode": "loop-lvm"}}})),
        (ValueError,),
        [
            b"- {name: a, spec: {mode: loop-lvm}}\n",
            b"- {name: a, spec: 5}\n",
            b"- {name: [], spec: {}}\n",
            *_POOLS,
            _DEEP,
        ],
    ),
    "page-token": Parser(_page, (PageTokenError,), [b"volumes:aaaaaaaaaa-00000001", b""]),
    "mount-options": Parser(
        _options, (InvalidRequestError,), [b'noatime,context="u:r:t:s0:c1,c2"', b"commit=5\ndata=journal", b'"']
    ),
    "target-path": Parser(_path, (InvalidRequestError,), [b"/var/lib/kubelet/pods/x", b"/var/lib/kubelet/../x"]),
    "mkfs-profile": Parser(lambda data: mkfs.kernel_of(_text(data)), (InvalidRequestError,), [b"5.15", b"auto"]),
    "class-parameters": Parser(
        _map(parameters.of_class), (DriverError,), [b"pool=default\nmkfsProfile=5.15\ncsi.storage.k8s.io/fstype=xfs"]
    ),
    "inline-attributes": Parser(
        _map(_inline), (DriverError,), [b"csi.storage.k8s.io/ephemeral=true\nsize=32Mi\nfstype=ext4\npool=default"]
    ),
}
"""By name."""
