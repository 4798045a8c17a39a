"""LVM that is slow, dies or talks nonsense keeps no volume from its users, and is asked again."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from csi.units import GIB, MIB
from tests.faults.crash.machine import Machine
from tests.faults.crash.process import NodeProcess
from tests.faults.rounds import FACTOR
from tests.kernel.conftest import wait_until

_LVM: Final = Path("/usr/sbin/lvm")
_FILLED: Final = 1400 * MIB
"""More than four fifths of the pool that is a fifth of the disk."""
_EXTENDED: Final = 120.0
_TROUBLES: Final = {
    "slow": "sleep 10",
    "dead": "kill -KILL $$",
    "nonsense": 'echo \'{"report": [{"vg": [{}]}]}\'; exit 0',
    "garbage": "head -c 65536 /dev/urandom; exit 0",
    "silent": "exit 0",
}
_TRIED: Final = _TROUBLES if FACTOR > 1 else ("slow", "nonsense")

GUEST: Final[list[str]] = []
"""One of its own, beside the others: it takes minutes."""

pytestmark = pytest.mark.timeout(600)


class Lvm:
    """The program, which can be told to misbehave. In a guest, where nothing stays."""

    def __init__(self, place: Path) -> None:
        self._trouble = place / "trouble"
        self._calls = place / "calls"
        real = place / "real"
        real.mkdir()
        shutil.copy2(_LVM, real / "lvm")
        _LVM.unlink()
        _LVM.write_text(f"""#!/bin/sh
echo . >>{self._calls}
[ ! -e {self._trouble} ] || . {self._trouble}
exec {real}/lvm "$@"
""")
        _LVM.chmod(0o755)

    def misbehaves(self, how: str) -> None:
        """Do this from now on."""
        self._trouble.write_text(f"{how}\n")

    def is_well(self) -> None:
        """Misbehave no more."""
        self._trouble.unlink()

    def calls(self) -> int:
        """Return how often it was called."""
        return len(self._calls.read_text().splitlines())


@pytest.fixture
def lvm(tmp_path: Path) -> Iterator[Lvm]:
    kept = tmp_path / "kept"
    shutil.copy2(_LVM, kept)
    yield Lvm(tmp_path)
    shutil.copy2(kept, _LVM)


@pytest.mark.parametrize("how", _TRIED)
@pytest.mark.parametrize("pool_options", ["thinpPercent: 20, "], ids=["small"])
def test_volumes_are_made_and_written_whatever_lvm_does_and_the_pool_is_extended_once_it_is_well(
    lvm: Lvm, node: NodeProcess, how: str
) -> None:
    machine = Machine(node.socket, node.kubelet)
    before = machine.any.node().pools[0].data_total
    lvm.misbehaves(_TROUBLES[how])
    called = lvm.calls()
    volume = machine.volume("blocks", "", size=2 * GIB)
    _fill(machine.any.target(volume.known))
    # The pool is past its threshold: LVM is asked.
    wait_until(lambda: lvm.calls() > called, 60)
    snapshot = machine.snapshot("snapshot", volume)
    copy = machine.volume("copy", source=snapshot)
    machine.delete(copy)
    lvm.is_well()
    wait_until(lambda: machine.any.node().pools[0].data_total > before, _EXTENDED)
    for thing in (snapshot, volume):
        machine.delete(thing)
    assert not machine.any.check().findings


def _fill(path: Path) -> None:
    with path.open("r+b") as device:
        device.seek(2 * MIB)  # behind what the machine wrote and looks at
        for _ in range(_FILLED // MIB):
            device.write(os.urandom(4096) * 256)
        device.flush()
        os.fsync(device.fileno())
