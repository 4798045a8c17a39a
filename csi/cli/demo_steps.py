"""The steps of the demo, in the order in which they are shown."""

import os
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, TypeVar

from csi.cli.account import Account, DemoError, counted
from csi.cli.kubelet import Kubelet, Volume
from csi.cli.own_node import OwnNode
from csi.cli.tree import SIZE, Appending, Writer, checksums, damage, in_order, numbers, write_in_turn, write_tree
from csi.units import GIB, MIB, format_size

CLONES: Final = 50
_OPENED: Final = (0, CLONES // 2, CLONES - 1)
_VIRTUAL: Final = 1 * GIB
_SLACK: Final = 1 * MIB
_TEMPLATE: Final = 4 * MIB
"""More than the fresh file system of a volume of the demonstration takes."""
_SETTLING: Final = 10.0
_EMPTYING: Final = 90.0

_Result = TypeVar("_Result")


@dataclass
class Stage:
    """What the steps work on, and what they hand on to each other."""

    account: Account
    node: OwnNode
    kubelet: Kubelet
    orders: Volume | None = None
    """A volume with data."""
    sums: dict[str, str] = field(default_factory=dict)
    """The checksums of that data."""
    snapshot: str = ""
    """The snapshot of it, from before it was damaged."""


def play(stage: Stage) -> None:
    """Play all steps. Raise DemoError, which says what did not come out as it should."""
    for title, step in STEPS:
        with stage.account.step(title):
            step(stage)


def _start(stage: Stage) -> None:
    account = stage.account
    account.say("thinpool-csi node is starting; LVM makes the pool, once ...")
    took = stage.node.start()
    pool = stage.kubelet.node().pools[0]
    if not pool.pool_id:
        raise DemoError(pool.conditions[0].message if pool.conditions else "the pool is not open")
    account.measure = stage.kubelet.space
    account.say(f"it serves after {took:.1f} s: pool {pool.pool_id} in {stage.node.directory}")
    account.say(f"{format_size(pool.data_total)} of sparse file, in blocks of {format_size(pool.block_size)}")
    deadline = time.monotonic() + _SETTLING
    while stage.kubelet.space().data and time.monotonic() < deadline:
        # Its ballast is being written: taken already, and not yet known as what it is.
        time.sleep(0.2)


def _write(stage: Stage) -> None:
    account, kubelet = stage.account, stage.kubelet
    orders, took = _timed(lambda: kubelet.create("orders", _VIRTUAL))
    account.say(f"created {orders.id}, {format_size(orders.size)}, in {_ms(took)}")
    place, took = _timed(lambda: kubelet.use(orders))
    account.say(f"formatted, mounted and published in {_ms(took)}")
    sums, took = _timed(lambda: write_tree(place / "data"))
    account.say(f"wrote {len(sums)} files of random data, {format_size(SIZE)}, each synced, in {took:.1f} s")
    account.check(checksums(place / "data") == sums, "every checksum reads back")
    stage.orders, stage.sums = orders, sums


def _restore(stage: Stage) -> None:
    account, kubelet, orders = stage.account, stage.kubelet, _there(stage.orders)
    data = kubelet.target(orders) / "data"
    stage.snapshot, took = _timed(lambda: kubelet.snapshot("orders-before", orders))
    account.say(f"snapshot {stage.snapshot} of the mounted volume in {_ms(took)}")
    damage(data)
    now = checksums(data)
    hit = sum(now.get(file) != checksum for file, checksum in stage.sums.items())
    account.check(hit > 0, f"{hit} of {len(stage.sums)} files are deleted, cut short or overwritten")
    restored, took = _timed(lambda: kubelet.create("orders-restored", snapshot=stage.snapshot))
    account.say(f"restored into a new volume, {restored.id}, in {_ms(took)}")
    place, took = _timed(lambda: kubelet.use(restored))
    account.say(f"mounted beside the damaged one in {_ms(took)}")
    account.check(checksums(place / "data") == stage.sums, "every file has its checksum from before the damage")
    kubelet.release(restored)


def _clones(stage: Stage) -> None:
    account, kubelet = stage.account, stage.kubelet
    nothing = kubelet.space().data
    base = kubelet.create("base", _VIRTUAL)
    sums = write_tree(kubelet.use(base) / "data")
    kubelet.release(base)
    before = kubelet.space().data
    clones, times = [], []
    for number in range(CLONES):
        clone, took = _timed(lambda: kubelet.create(f"clone-{number:02}", volume=base.id))  # noqa: B023 - called at once
        clones.append(clone)
        times.append(took)
        account.progress(f"... {counted(len(clones), 'clone')}")
    after = kubelet.space().data
    held = (CLONES + 1) * SIZE
    account.say(f"{CLONES} clones of a volume with {format_size(SIZE)} in it, {_ms(statistics.median(times))} each")
    account.say(f"data used by the base alone:     {format_size(before - nothing)}")
    account.say(f"data used by it and {CLONES} clones:   {format_size(after - nothing)}")
    ratio = (after - nothing) / (before - nothing)
    account.check(ratio < 1 + 1 / 50, f"{format_size(held)} for its users, {ratio:.3f} times the space of one")
    for number in _OPENED:
        place = kubelet.use(clones[number])
        account.check(checksums(place / "data") == sums, f"{clones[number].name} mounted: every checksum is right")
        (place / "data" / "own").write_text(f"only in clone {number}")
    for number in _OPENED:
        kubelet.release(clones[number])


def _group(stage: Stage) -> None:
    account, kubelet = stage.account, stage.kubelet
    ledgers = [kubelet.create(f"ledger-{name}", _VIRTUAL) for name in "abc"]
    files = [kubelet.use(ledger) / "number" for ledger in ledgers]
    with Writer(write_in_turn(files)) as writer:
        writer.go_on(20)
        (group, members), took = _timed(lambda: kubelet.snapshot_group("ledgers", ledgers))
        cut = writer.count
        writer.go_on(20)
        writer.stop()
    account.say(f"a program writes 1, 2, 3 ... into a, then b, then c: {writer.count} so far")
    account.say(f"group snapshot {group} in between, in {_ms(took)}")
    account.say(f"the writer's longest round took {_ms(writer.longest)}")
    copies = [kubelet.create(f"{ledger.name}-copy", snapshot=members[ledger.id]) for ledger in ledgers]
    found = numbers([kubelet.use(copy) / "number" for copy in copies])
    account.check(in_order(found) and found[0] <= cut + 1, f"one point in time: {_spelled(found)}")
    for volume in (*ledgers, *copies):
        kubelet.release(volume)


def _grow(stage: Stage) -> None:
    account, kubelet = stage.account, stage.kubelet
    volume = kubelet.create("growing", _VIRTUAL // 2)
    place = kubelet.use(volume)
    before = _size_of(place)
    log = Appending(place / "log")
    with Writer(log) as writer:
        writer.go_on(10)
        _, took = _timed(lambda: kubelet.grow(volume, _VIRTUAL))
        writer.go_on(10)
        writer.stop()
    after = _size_of(place)
    account.say(f"{format_size(_VIRTUAL // 2)} to {format_size(_VIRTUAL)} in {_ms(took)}, mounted, with a writer in it")
    account.say(f"the writer's longest write took {_ms(writer.longest)}")
    account.check(after > before * 18 // 10, f"df said {format_size(before)}, and says {format_size(after)}")
    account.check(log.intact(), f"all {writer.count} writes are there")
    kubelet.release(volume)


def _block(stage: Stage) -> None:
    account, kubelet = stage.account, stage.kubelet
    volume = kubelet.create("raw", _VIRTUAL, block=True)
    places = (0, _VIRTUAL // 2, _VIRTUAL - MIB)
    patterns = [os.urandom(MIB) for _ in places]
    device = kubelet.use(volume)
    account.check(device.is_block_device(), f"{volume.id} is published as a block device")
    with device.open("r+b", buffering=0) as opened:
        for place, pattern in zip(places, patterns, strict=True):
            _transfer(opened.fileno(), place, pattern)
        os.fsync(opened.fileno())
    # The device goes with that, and with it all that the kernel may have kept of it in memory.
    kubelet.release(volume)
    with kubelet.use(volume).open("rb", buffering=0) as opened:
        found = [os.pread(opened.fileno(), MIB, place) for place in places]
        unwritten = os.pread(opened.fileno(), MIB, _VIRTUAL // 4)
    account.check(found == patterns, "patterns at its start, middle and end read back after a new stage")
    account.check(not any(unwritten), "what nobody wrote reads as zeros")
    kubelet.release(volume)


def _origin(stage: Stage) -> None:
    account, kubelet, orders = stage.account, stage.kubelet, _there(stage.orders)
    kubelet.release(orders)
    _, took = _timed(lambda: kubelet.delete(orders))
    account.check(not kubelet.exists(orders), f"the damaged volume is deleted, in {_ms(took)}; its snapshot lives")
    again = kubelet.create("orders-again", snapshot=stage.snapshot)
    place = kubelet.use(again)
    account.check(checksums(place / "data") == stage.sums, "restored once more, every checksum is right")
    kubelet.release(again)


def _tidy(stage: Stage) -> None:
    account, kubelet = stage.account, stage.kubelet
    pool = kubelet.node().pools[0]
    taken = format_size(kubelet.space().data)
    account.say(f"{pool.volumes} volumes of {format_size(pool.virtual_total)} in all take {taken} so far")
    for group in list(kubelet.groups):
        kubelet.delete_group(group)
    for snapshot in list(kubelet.snapshots):
        kubelet.delete_snapshot(snapshot)
    volumes = list(kubelet.volumes.values())
    begun = time.monotonic()
    for volume in volumes:
        kubelet.delete(volume)
        account.progress(f"... {len(kubelet.volumes)} volumes to go")
    took = time.monotonic() - begun
    account.say(f"{len(volumes)} volumes deleted in {took:.1f} s; their space comes back in the background")
    deadline = time.monotonic() + _EMPTYING
    while (left := kubelet.space().deferred) and time.monotonic() < deadline:
        account.progress(f"... the space of {left} to come")
        time.sleep(0.2)
    space, templates = kubelet.space(), kubelet.node().pools[0].templates
    account.check(
        not space.deferred and space.data <= _SLACK + templates * _TEMPLATE,
        f"the pool is empty, but for {counted(templates, 'fresh file system')} that the next volumes begin as:"
        f" {format_size(space.data)} are taken",
    )
    findings = kubelet.check().findings
    account.check(not findings, "catalog and pool agree" + "".join(f"; {finding.message}" for finding in findings))


STEPS: Final[Sequence[tuple[str, Callable[[Stage], None]]]] = (
    ("A node with nothing but a directory: an embedded loop-lvm pool", _start),
    ("A volume: create, format, mount, write real data", _write),
    ("A snapshot; the data is damaged; it is restored", _restore),
    (f"A base volume and {CLONES} clones: what they share is stored once", _clones),
    ("A group snapshot: three volumes at one point in time", _group),
    ("A mounted volume grows under a writer", _grow),
    ("A raw block volume", _block),
    ("The origin is deleted while its snapshot lives", _origin),
    ("Everything is deleted", _tidy),
)


def _timed(call: Callable[[], _Result]) -> tuple[_Result, float]:
    begun = time.monotonic()
    result = call()
    return result, time.monotonic() - begun


def _ms(seconds: float) -> str:
    return f"{seconds * 1000:.0f} ms" if seconds < 1 else f"{seconds:.1f} s"


def _there(volume: Volume | None) -> Volume:
    if volume is None:
        message = "an earlier step made no volume"
        raise DemoError(message)
    return volume


def _size_of(place: Path) -> int:
    figures = os.statvfs(place)
    return figures.f_blocks * figures.f_frsize


def _transfer(descriptor: int, place: int, content: bytes) -> None:
    written = os.pwrite(descriptor, content, place)
    if written != len(content):
        message = f"the device took {written} of {len(content)} bytes"
        raise DemoError(message)


def _spelled(found: Sequence[int]) -> str:
    return ", ".join(f"{name} has {number}" for name, number in zip("abc", found, strict=True))
