"""What a thousand clones take of the pool, each of which was mounted once."""

from typing import Final

from bench.our_pool import fill
from bench.rig import Rig
from bench.sample import Sample, timed
from csi.units import GIB, MIB, Bytes, format_size

_SIZE: Final = GIB
_DATA: Final = Bytes(900 * MIB)


def run(rig: Rig) -> None:
    """Fill a volume, clone it, and stage each clone once."""
    ours, served = rig.ours, rig.ours.served
    count = rig.few(1000, 10)
    empty = ours.data_used()
    source = served.create(ours.name("source"), _SIZE)
    fill(f"{served.staged(source)}/data", Bytes(_DATA if count >= 1000 else _DATA // 9))  # noqa: PLR2004 - in full
    served.unstage(source)
    before = ours.data_used() - empty
    took = []
    for number in range(count):
        if number % 100 == 0:
            rig.report.tell(f"clones, {number} of {count}")
        clone = served.copy(ours.name("clone"), source.handle)
        took.append(timed(lambda clone=clone: served.staged(clone)))  # type: ignore[misc]
        served.unstage(clone)
    after = ours.data_used() - empty
    ours.renew()
    note = f"{count} clones: {format_size(after)} over {format_size(before)}"
    rig.report.add("clones_1000_space", after / before, note, stagings=Sample.of(took))
