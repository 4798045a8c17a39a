"""``thinpool-csi check``: catalogs against pools, one finding a line."""

import argparse
from typing import TYPE_CHECKING, Final

from csi.cli.account import counted
from csi.cli.client import Source, answer

if TYPE_CHECKING:
    from csi.pb.thinpool.v1 import admin_pb2 as pb

_FOUND: Final = 1
_FAILED: Final = 2
_SOUND: Final = "ok"


def run(options: argparse.Namespace) -> int:
    """Print the findings; 0: none, 1: some, 2: could not check."""
    return answer(options, lambda source: _show(source, options), failed=_FAILED)


def _show(source: Source, options: argparse.Namespace) -> int:
    from csi.cli import plain  # noqa: PLC0415 - protobuf, once the source has been chosen

    report = source.check(rebuild=options.rebuild)
    if options.output == "json":
        plain.print_json(plain.fields(report))
    else:
        print("\n".join(lines(report)))
    return status(report)


def status(report: "pb.CheckResponse") -> int:
    """Return the exit status that a report stands for."""
    sound = not report.findings and all(said == _SOUND for said in report.thin_check.values())
    return 0 if sound else _FOUND


def lines(report: "pb.CheckResponse") -> list[str]:
    """Return the findings, then the state of each pool's metadata, then the sum."""
    looked_at = f"{counted(report.pools, 'pool')}, {counted(report.devices, 'device')}"
    return [
        *(f"{finding.pool}: {finding.subject}: {finding.message}" for finding in report.findings),
        *(f"{pool}: metadata: {said}" for pool, said in sorted(report.thin_check.items())),
        f"{looked_at}: {counted(len(report.findings), 'finding')}",
    ]
