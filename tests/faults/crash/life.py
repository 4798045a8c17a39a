"""What a machine does between two power cuts: ``python -m tests.faults.crash.life MODE SEED STEP…`` in a guest.

The pool is on the guest's first disk (loop-lvm: on files), what else a machine keeps on its second.
"""

import json
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Final

from csi.cli.kubelet import Volume
from tests.faults.crash.churn import churn, handles
from tests.faults.crash.machine import SIZES, Machine, Thing, say, together
from tests.faults.crash.process import NodeProcess

KNOWN: Final = Path("/run/shared/known.json")
"""What the host has made of the lines of earlier boots: a :class:`~tests.faults.crash.known.Known`."""

_ASKED_FOR: Final = 20
"""Of what was deleted, how much is asked for by itself."""

_POOL, _OWN = "/dev/ubda", "/dev/ubdb"
_WHERE: Final = {"direct-lvm": f"devices: [{_POOL}]", "loop-lvm": "loop: {dataSize: 6Gi, metadataSize: 256Mi}"}
_PLACE: Final = Path("/run/machine")
_HOME: Final = _PLACE / "disk"
_KUBELET: Final = _HOME / "kubelet"


def furnish(machine: Machine) -> None:
    """Put everything into use that there can be."""
    first, *others = [machine.volume(f"of {fs_type or 'blocks'}", fs_type) for fs_type in SIZES]
    snapshot = machine.snapshot("snapshot", first)
    machine.rewrite(first)
    machine.volume("clone", source=others[0])
    machine.volume("restored", source=snapshot, size=2 * first.size)
    machine.volume("copied blocks", source=others[-1])
    machine.group("group", [others[0], others[-1]])


def verify(node: NodeProcess, machine: Machine, dice: random.Random) -> list[Thing]:
    """See that everything is there that was answered, and nothing that was taken away; bring the rest to an end.

    Return what there is.
    """
    known = json.loads(KNOWN.read_text())
    there = {thing["id"]: Thing(**thing) for thing in known["must"]}
    changing = {thing["id"]: Thing(**thing) for thing in known["changing"]}
    for number, thing in enumerate(list(there.values())):
        found = machine.holds(thing, f"seen {time.time_ns()} {number}")
        then = changing.get(thing.id, thing)
        assert found in (thing.sum, then.sum), f"{thing} holds something else"
        if then != thing:
            now = there[thing.id] = replace(then, sum=found)
            if then.size != thing.size:
                machine.grow(now, then.size)
            else:
                say(changed=asdict(now))
    for members in together(there.values()):
        if members[0].group:
            machine.cut_at_once(members)
    deleted = set(known["gone"])
    assert not deleted & handles(node), f"deleted: {deleted & handles(node)}"
    for gone in dice.sample(known["gone"], min(_ASKED_FOR, len(deleted))):
        assert not machine.any.exists(Volume(gone, gone, 0, block=False)), f"{gone} was deleted"
    for things in together(Thing(**maybe) for maybe in known["maybe"]):
        machine.delete(*things)
    for making in known["unanswered"]:
        machine.retry(making)
        say(settled=making["name"])
    fresh = machine.volume(f"new {time.time_ns()}")
    machine.delete(fresh)
    answer = machine.any.check()
    assert not answer.findings, answer
    return list(there.values())


@contextmanager
def served(mode: str) -> Iterator[NodeProcess]:
    """Run a node as a machine that boots would."""
    _HOME.mkdir(parents=True)
    if subprocess.run(["blkid", "--probe", _OWN], check=False, capture_output=True, timeout=30).returncode:
        subprocess.run(["mkfs.ext4", "-q", _OWN], check=True, timeout=60)
    subprocess.run(["mount", _OWN, str(_HOME)], check=True, timeout=60)
    _KUBELET.mkdir(exist_ok=True)
    pools = _PLACE / "pools.yaml"
    pools.write_text(f"pools: [{{name: default, mode: {mode}, overprovisionRatio: 100, {_WHERE[mode]}}}]\n")
    node = NodeProcess(_PLACE, _HOME / "state", pools, _KUBELET)
    say(starting=node.socket)
    node.start()
    yield node
    node.stop(signal.SIGTERM)


def main(mode: str, seed: str, *steps: str) -> None:
    """Take the steps, and wait for the power to be cut."""
    with served(mode) as node:
        machine = Machine(node.socket, _KUBELET)
        there: list[Thing] = []
        for step in steps:
            if step == "furnish":
                furnish(machine)
            elif step == "verify":
                there = verify(node, machine, random.Random(seed))  # noqa: S311 - to be repeated
            else:
                churn(node, lambda: Machine(node.socket, _KUBELET), int(seed), there)
            say(finished=step)
        signal.pause()


if __name__ == "__main__":
    main(*sys.argv[1:])
