"""``thinpool-csi repair``: makes the metadata of a closed pool whole again."""

import argparse
import sys
from typing import Final

from csi import log
from csi.cli.account import counted
from csi.cli.place import find_place, wanted_pool
from csi.errors import DriverError
from csi.volumes.repair import Repaired, Way, repair

_LOST: Final = 1
_FAILED: Final = 2


def run(options: argparse.Namespace) -> int:
    """Repair, or say what would be done; 0: nothing lost, 1: some lost or all suspect, 2: not repaired."""
    log.configure(options.log_format, options.log_level)
    try:
        place = find_place(options)
        try:
            done = repair(wanted_pool(options), place, go=options.yes)
        finally:
            place.freezer.close()
    except DriverError as error:
        print(f"thinpool-csi: {error}", file=sys.stderr)
        return _FAILED
    print("\n".join(f"{options.pool}: {line}" for line in lines(done, go=options.yes)))
    return status(done)


def status(done: Repaired) -> int:
    """Return the exit status that a repair stands for."""
    return _LOST if done.lost or done.way is Way.SEARCH else 0


def lines(done: Repaired, *, go: bool) -> list[str]:
    """Return what was found and what was done, or would be."""
    what = {
        Way.NOTHING: ["nothing is to be repaired"],
        Way.CLEAR: ["the kernel's mark needs_check " + ("was taken away" if go else "would be taken away")],
        Way.WRITE: [
            f"new metadata with {counted(done.devices, 'device')} "
            + ("was put in its place" if go else "would be put in its place")
        ],
        Way.SEARCH: [
            "the list of its devices cannot be read: "
            + (
                f"the newest whole state that thin_repair found, with {counted(done.devices, 'device')}, was put in"
                " its place; it may be older than the data: every volume is suspect, check each one"
                if go
                else "thin_repair would look for the newest whole state, after which every volume is suspect"
            )
        ],
    }[done.way]
    return [
        *([f"the catalog cannot be read: {done.catalog_trouble}"] if done.catalog_trouble else []),
        f"thin_check: {done.verdict or 'the metadata is sound'}",
        *what,
        *(f"lost: {each}" for each in done.lost),
        *([f"the old metadata is kept in {done.old}"] if done.old else []),
        *(["nothing was changed: do it with --yes"] if not go and done.way is not Way.NOTHING else []),
    ]
