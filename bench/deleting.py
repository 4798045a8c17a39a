"""How long a writer is held while a big volume is deleted."""

import time
from typing import Final

from bench.our_pool import fill
from bench.rig import Rig
from bench.sample import Sample, timed
from bench.writer import Writer
from csi.model import Device
from csi.units import GIB, MIB, Bytes
from tests.kernel.conftest import wait_until

_SIZE: Final = Bytes(8 * GIB)
_PAUSE: Final = 0.001
_PATIENCE: Final = 600.0
_FILE: Final = Bytes(MIB)


def run(rig: Rig) -> None:
    """Delete fully mapped volumes under a writer, each before a quiet window of the same length."""
    ours, served = rig.ours, rig.ours.served
    size = Bytes(rig.few(_SIZE, _SIZE // 16))
    volume = served.create(ours.name("written"))
    file = f"{served.staged(volume)}/file"
    fill(file, _FILE)
    stalls, quiets, lengths, ratios = [], [], [], []
    for number in range(rig.few(5, 1)):
        rig.report.tell(f"deletion {number + 1}")
        big = served.create(ours.name("big"), size, block=True)
        ours.write(big, size)
        with Writer(file, durable=True, pause=_PAUSE) as writer:
            writer.reset()
            lengths.append(timed(lambda big=big: _delete(rig, big)))  # type: ignore[misc]
            stalls.append(writer.longest())
            quiets.append(_quiet(writer, lengths[-1]))
        ratios.append(stalls[-1] / quiets[-1])
    served.unstage(volume)
    ours.clear()
    rig.report.add(
        "delete_stall",
        Sample.of(ratios).median,
        "the ratio's median",
        stalls=Sample.of(stalls),
        quiet=Sample.of(quiets),
        deletion=Sample.of(lengths),
    )


def _quiet(writer: Writer, seconds: float) -> float:
    """Return the longest write while nothing else goes on for so long."""
    writer.reset()
    time.sleep(seconds)
    return writer.longest()


def _delete(rig: Rig, big: Device) -> None:
    ours = rig.ours
    ours.served.node.delete_volume(big.handle)
    wait_until(lambda: ours.pool.catalog.device(big.handle.thin) is None, _PATIENCE)
