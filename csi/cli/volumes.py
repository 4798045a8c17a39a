"""``thinpool-csi volumes`` and ``thinpool-csi snapshots``: the lists, with what each really takes."""

import argparse
from typing import TYPE_CHECKING, Final

from csi.cli.client import Source, answer
from csi.units import format_size

if TYPE_CHECKING:
    from csi.pb.thinpool.v1 import admin_pb2 as pb

_HEAD: Final = ("HANDLE", "NAME", "POOL", "SIZE", "MAPPED", "EXCLUSIVE", "ORIGIN", "STATE", "FS", "IN USE")
_SIZES: Final = (3, 4, 5)


def run(options: argparse.Namespace) -> int:
    """Print the list; 1 if it could not be had."""
    return answer(options, lambda source: _show(source, options))


def _show(source: Source, options: argparse.Namespace) -> int:
    from csi.cli import plain  # noqa: PLC0415 - protobuf, once the source has been chosen

    devices = source.devices(options.kind).devices
    if options.output == "json":
        plain.print_json({f"{options.kind}s": [plain.fields(device) for device in devices]})
    else:
        print(plain.table(_HEAD, map(row, devices), right=_SIZES))
    return 0


def row(device: "pb.Device") -> tuple[str, ...]:
    """Return a device as a line of the table; ``-`` stands for nothing, ``?`` for what could not be read."""
    return (
        device.handle,
        device.name or "-",
        device.pool,
        format_size(device.size),
        format_size(device.mapped) if device.HasField("mapped") else "?",
        format_size(device.exclusive) if device.HasField("exclusive") else "?",
        device.origin or "-",
        device.state,
        device.fs_type or "block",
        "yes" if device.active else "no",
    )
