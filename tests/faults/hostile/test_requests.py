"""Requests of every kind to every call: none takes the node down, and what is refused changes nothing."""

import ctypes
import gc
import os
import shutil
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Final

import grpc
import pytest
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message_factory import GetMessageClass

from csi import log
from csi.dm.freezer import Freezer
from csi.fs import mount
from csi.model import Device, FsState, Kind, State
from csi.rpc.redact import secrets_of
from csi.rpc.server import QUICK_WORKERS, WORKERS, node_server
from csi.settings import PoolSpec
from csi.units import MIB
from csi.volumes import volume
from tests.faults.hostile.canary import Canary, canary, trap_paths, traps
from tests.faults.hostile.generator import Generator, Live, methods, of_another_pool
from tests.faults.rounds import rounds, tell
from tests.kernel.conftest import wait_until
from tests.kernel.volumes.served import Served, loop_disk, remove_devices

GUEST: Final[list[str]] = []
"""One of its own: memory, threads and forks are looked at."""

_SHORT: Final = 2000
_MOST: Final = 20
"""Volumes and snapshots, before all are deleted."""
_DEADLINE: Final = 60.0
_WARM: Final = 0.4
"""The share of the rounds after which memory has all that stays."""
_LARGE: Final = 3 * MIB
"""Nearly as large as gRPC lets a request be."""
_GROWTH: Final = 16 * MIB
"""What may come to memory afterwards, whatever the number of requests."""
_MORE_OBJECTS: Final = 10_000
"""How many objects of Python may come: memory itself also grows by what malloc keeps."""
_FAILURES: Final = 10
"""As many are told of."""
_WRONG: Final = (
    grpc.StatusCode.INTERNAL,
    grpc.StatusCode.UNKNOWN,
    grpc.StatusCode.DATA_LOSS,
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.CANCELLED,
)


@dataclass(frozen=True)
class Used:
    """What the process uses."""

    memory: int
    objects: int
    threads: int
    descriptors: int


@dataclass(frozen=True)
class Seen:
    """What a request may change."""

    devices: tuple[Device, ...]
    active: frozenset[str]
    mounts: tuple[str, ...]


class Fuzzed:
    """A node that serves on a socket, and its one client."""

    def __init__(self, served: Served, guarded: Canary, server_path: str) -> None:
        self.served = served
        self.guarded = guarded
        self.kubelet = served.place.kubelet_dir
        self.codes: dict[str, Counter[str]] = {}
        self.seconds: dict[str, float] = {}
        self._paths = trap_paths(self.kubelet, guarded.directory)
        self._channel = grpc.insecure_channel(f"unix:{server_path}", options=[("grpc.max_send_message_length", -1)])

    def close(self) -> None:
        """Close the connection."""
        self._channel.close()

    def live(self, seen: Seen) -> Live:
        """Return what requests may name."""
        return Live(seen.devices, self._paths, str(self.kubelet), seen.active)

    def seen(self) -> Seen:
        """Look at everything that a request may change."""
        # What is made for a mount that then failed is a step on the way, and kept: a file system, and its template.
        rows = [
            device
            for device in self.served.devices()
            if device.state is not State.DELETING and device.kind is not Kind.TEMPLATE
        ]
        names = {device.handle.device for device in rows}
        return Seen(
            tuple(replace(device, fs_state=FsState.NONE, fs_unique=True) for device in rows),
            frozenset(each.name for each in self.served.control.devices() if each.name in names),
            tuple(Path("/proc/self/mountinfo").read_bytes().decode(errors="surrogateescape").split("\n")),
        )

    def ask(self, method: MethodDescriptor, data: bytes, before: Seen) -> tuple[Seen, str]:
        """Send a request; return what is seen then, and what is wrong with the answer or with what it changed."""
        self.prepare(before)
        code, wrong = self.call(method, data)
        after = self.seen()
        if code is not grpc.StatusCode.OK and after != before:
            wrong += f"refused with {code.name}, and yet changed: {_difference(before, after)}"
        return after, f"{method.full_name} {data[:400]!r}\n  {wrong}" if wrong else ""

    def call(self, method: MethodDescriptor, data: bytes) -> tuple[grpc.StatusCode, str]:
        """Send a request; return the answer's code, and what is wrong with the answer."""
        call: grpc.UnaryUnaryMultiCallable[bytes, bytes] = self._channel.unary_unary(
            f"/{method.containing_service.full_name}/{method.name}"
        )
        begun = time.monotonic()
        answer = call.future(data, timeout=_DEADLINE, wait_for_ready=True)
        code, details = answer.code(), answer.details() or ""
        self.codes.setdefault(method.name, Counter())[code.name] += 1
        self.seconds[method.name] = self.seconds.get(method.name, 0) + time.monotonic() - begun
        unavailable = code is grpc.StatusCode.UNAVAILABLE
        secrets = secrets_of(GetMessageClass(method.input_type).FromString(data)) if unavailable else []
        wrong = code in _WRONG or (unavailable and not of_another_pool(details, self.served.pool.id, secrets))
        return code, f"{code.name}: {details}" if wrong else ""

    @property
    def log(self) -> str:
        """What the node has logged of errors."""
        return (self.served.base / "log").read_text()

    def prepare(self, seen: Seen) -> None:
        """Make the staging directories, as the kubelet does."""
        for device in seen.devices:
            path = self.kubelet / f"staging-{device.handle}"
            if not path.exists():
                path.mkdir()

    def furnish(self) -> None:
        """Lay the traps, and make something of everything that a request can name."""
        traps(self.kubelet, self.guarded.directory)
        files, blocks = self.served.create("name 0"), self.served.create("blocks", block=True)
        self.served.staged(files)
        self.served.node.create_snapshot("snapshot", files.handle)
        self.served.node.create_group("group", [files.handle, blocks.handle])

    def empty(self) -> None:
        """Delete everything, and furnish the place anew."""
        self.served.unmount()
        for each in self.kubelet.iterdir():
            if each.is_dir() and not each.is_symlink():
                shutil.rmtree(each)
        self.served.clear()
        self.furnish()


@pytest.fixture
def fuzzed(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[Fuzzed]:
    # Who deletes a volume in use, or unmounts below another mount, waits in vain.
    monkeypatch.setattr(volume, "_UNSTAGING", 0.05)
    defaults = mount.unmount.__kwdefaults__
    assert defaults is not None
    monkeypatch.setitem(defaults, "patience", 0.1)
    base = tmp_path_factory.mktemp("fuzzed")
    with ExitStack() as stack:
        freezer = Freezer.start()
        stack.callback(freezer.close)
        file = (base / "log").open("w")
        stack.enter_context(file)
        log.configure("json", "error", file)
        disk = stack.enter_context(loop_disk(base / "disk", 4096 * MIB))
        served = Served(base, PoolSpec("default", devices=(disk,), overprovision_ratio=50.0), freezer)
        served.open()
        stack.callback(remove_devices, served.pool.id)
        stack.callback(served.leave)
        guarded = stack.enter_context(canary(base / "canary", served.place.kubelet_dir))
        server = node_server(served.node, f"unix://{base}/csi.sock")
        server.start()
        made = Fuzzed(served, guarded, server.path)
        made.furnish()
        yield made
        made.close()
        assert server.stop(10) == 0


@pytest.mark.timeout(0)
def test_no_request_breaks_the_node_and_none_that_is_refused_changes_anything(fuzzed: Fuzzed) -> None:
    given = rounds(_SHORT)
    generator = Generator(given.dice(), fuzzed.live(fuzzed.seen()))
    calls = methods()
    warm: Used | None = None
    failures: list[str] = []
    before = fuzzed.seen()
    for number in range(given.count):
        if len(before.devices) > _MOST or number == int(given.count * _WARM):
            fuzzed.empty()
            fuzzed.guarded.check()
            before = fuzzed.seen()
            if number == int(given.count * _WARM):
                failures += _large_ones(fuzzed, generator, calls)
                fuzzed.empty()
                before, warm = fuzzed.seen(), _used()
        generator.live = fuzzed.live(before)
        (method,) = generator.dice.choices(calls, [1 + len(each.input_type.fields) for each in calls])
        before, wrong = fuzzed.ask(method, generator.request(method), before)
        if wrong:
            failures.append(f"request {number}, {wrong}")
            if len(failures) >= _FAILURES:
                break
    for name, counts in sorted(fuzzed.codes.items()):
        said = ", ".join(f"{code} {count}" for code, count in sorted(counts.items()))
        tell(f"{name} ({fuzzed.seconds[name]:.1f} s): {said}")
    if failures:
        pytest.fail(
            f"SEED={given.seed} ROUNDS={given.count}\n" + "\n".join([*failures, fuzzed.log[-4000:]]), pytrace=False
        )
    fuzzed.empty()
    fuzzed.guarded.check()
    assert not fuzzed.served.node.check().findings
    assert {method.name for method in calls} == fuzzed.codes.keys(), "some call was never made"
    assert warm is not None
    # Threads for calls are made when none is idle at the moment, and stay.
    threads, descriptors = warm.threads + WORKERS + QUICK_WORKERS, warm.descriptors
    looks = [_used()]

    def settled() -> bool:
        looks.append(_used())
        return looks[-1].threads <= threads and looks[-1].descriptors <= descriptors

    with suppress(AssertionError):
        wait_until(settled, 30)
    after = looks[-1]
    tell(f"{warm}, then {after}")
    assert after.threads <= threads
    assert after.descriptors <= descriptors
    assert after.objects - warm.objects < _MORE_OBJECTS
    assert after.memory - warm.memory < _GROWTH


def _large_ones(fuzzed: Fuzzed, generator: Generator, calls: list[MethodDescriptor]) -> list[str]:
    """Ask by as large requests as can be, so that memory has what stays of such; return what was wrong."""
    failures, before = [], fuzzed.seen()
    for method in calls:
        plain = Generator(generator.dice, fuzzed.live(before), hostile=False).request(method)
        # The same message again and again is one message, with all their elements.
        before, wrong = fuzzed.ask(method, plain * (_LARGE // max(1, len(plain))), before)
        failures += [f"a large request, {wrong}"] if wrong else []
    return failures


def _difference(before: Seen, after: Seen) -> str:
    """Return what is only in one of both."""
    return "; ".join(
        str(set(getattr(before, each.name)) ^ set(getattr(after, each.name)))
        for each in fields(Seen)
        if getattr(before, each.name) != getattr(after, each.name)
    )


def _used() -> Used:
    """Return what this process uses now."""
    gc.collect()
    # What is free and kept by malloc (10 MiB after a request that is too large) is not in use.
    ctypes.CDLL(None).malloc_trim(0)
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return Used(
        pages * os.sysconf("SC_PAGESIZE"),
        sys.getallocatedblocks(),
        threading.active_count(),
        len(os.listdir("/proc/self/fd")),
    )
