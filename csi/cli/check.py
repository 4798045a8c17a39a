"""``thinpool-csi check``: catalogs against pools, one finding a line."""

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

from csi.cli.account import counted
from csi.cli.client import Source, answer
from csi.errors import InvalidRequestError
from csi.model import GroupHandle, Kind

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

    report = source.check(rebuild=options.rebuild, claims=_claims(options))
    if options.output == "json":
        plain.print_json(plain.fields(report))
    else:
        print("\n".join(lines(report)))
    return status(report)


def _claims(options: argparse.Namespace) -> "list[pb.Claim]":
    """Return what the objects in the file say. Raise InvalidRequestError."""
    if not options.objects:
        return []
    from csi.kube.claims import claims  # noqa: PLC0415 - as above
    from csi.pb.thinpool.v1 import admin_pb2 as pb  # noqa: PLC0415 - as above

    if not options.rebuild:
        raise InvalidRequestError("use", "--objects", "it is of use with --rebuild alone")
    try:
        text = sys.stdin.read() if options.objects == "-" else Path(options.objects).read_text(encoding="utf-8")
        found = json.loads(text)
        objects = found["items"] if found["kind"] == "List" else [found]
    except (OSError, ValueError, KeyError, TypeError) as error:
        way_out = "give it what 'kubectl get pv,volumesnapshotcontents -o json' prints"
        raise InvalidRequestError("read objects", options.objects, str(error), way_out=way_out) from error
    kinds = {Kind.VOLUME: pb.DEVICE_KIND_VOLUME, Kind.SNAPSHOT: pb.DEVICE_KIND_SNAPSHOT}
    return [
        pb.Claim(
            handle=str(claim.handle),
            kind=kinds[claim.kind],
            name=claim.name or "",
            size=claim.size,
            fs_type=claim.fs_type or "",
            source=str(claim.source or ""),
            group="" if claim.group is None else str(GroupHandle(claim.handle.pool, claim.group)),
            created_ns=claim.created,
        )
        for claim in claims(objects)
    ]


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
