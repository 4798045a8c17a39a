"""Paths that lead elsewhere, now or in a moment: nothing outside the kubelet's directory is changed by any call."""

import os
import random
import shutil
import stat
import subprocess
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Final

import pytest

from csi import log
from csi.dm.freezer import Freezer
from csi.errors import BusyError, ExistsError, InvalidRequestError, NotFoundError, StateError
from csi.fs import mount, mountinfo
from csi.model import Device
from csi.settings import PoolSpec
from csi.units import MIB
from csi.volumes.requests import Access
from tests.faults.hostile.canary import Canary, canary
from tests.faults.hostile.swapper import Swapper
from tests.faults.rounds import rounds, tell
from tests.kernel.volumes.served import Served, loop_disk, remove_devices

_SHORT: Final = 400
_LOOK_EVERY: Final = 50
_MOST: Final = 50
"""So many times the calls are made at most, until each has succeeded once."""
"""Calls after which all that is outside is looked at."""


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    base = tmp_path_factory.mktemp("paths")
    with ExitStack() as stack:
        freezer = Freezer.start()
        stack.callback(freezer.close)
        log.configure("json", "error", stack.enter_context((base / "log").open("w")))
        disk = stack.enter_context(loop_disk(base / "disk", 2048 * MIB))
        made = Served(base, PoolSpec("default", devices=(disk,), overprovision_ratio=20.0), freezer)
        made.open()
        stack.callback(remove_devices, made.pool.id)
        stack.callback(made.leave)
        yield made


@pytest.fixture
def guarded(served: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Canary]:
    defaults = mount.unmount.__kwdefaults__
    assert defaults is not None
    monkeypatch.setitem(defaults, "patience", 0.1)
    with canary(tmp_path / "canary", served.place.kubelet_dir) as made:
        yield made
        served.unmount()
        made.check()
        shutil.rmtree(served.place.kubelet_dir)
        served.clear()


def _calls(served: Served, device: Device, staging: Path, target: Path) -> dict[str, Callable[[], None]]:
    access = Access(block=device.fs_type is None)
    node, handle = served.node, device.handle
    return {
        "stage": lambda: node.stage(handle, str(staging), access),
        "publish": lambda: node.publish(handle, str(staging), str(target), access, readonly=False),
        "publish read-only": lambda: node.publish(handle, str(staging), str(target), access, readonly=True),
        "expand": lambda: _ignored(node.expand_fs(handle, str(target))),
        "usage": lambda: _ignored(node.usage(handle, str(target))),
        "unpublish": lambda: node.unpublish(str(handle), str(target)),
        "unstage": lambda: node.unstage(handle, str(staging)),
    }


def _ignored(_answer: object) -> None:
    pass


@pytest.mark.timeout(0)
@pytest.mark.parametrize("block", [False, True], ids=["file-system", "block"])
def test_paths_that_are_swapped_during_calls_lead_nowhere_else(served: Served, guarded: Canary, *, block: bool) -> None:
    given = rounds(_SHORT)
    dice = given.dice()
    kubelet = served.place.kubelet_dir
    device = served.create("swapped", block=block)
    staging, target = kubelet / "plugins/volume/stage", kubelet / "pods/pod/target"
    calls = _calls(served, device, staging, target)
    swapped = [kubelet / "plugins", kubelet / "pods", staging.parent, target.parent, staging, target]
    swapper = Swapper(swapped, guarded.directory, random.Random(given.seed))  # noqa: S311 - to be repeated
    answers: Counter[str] = Counter()
    wanted, number = {"stage", "publish", "unpublish", "unstage"}, 0
    with swapper.at_work():
        # Where calls are slow few of them get through between two swaps.
        while number < given.count or (not wanted <= answers.keys() and number < _MOST * given.count):
            number += 1
            name = dice.choice([*calls])
            try:
                calls[name]()
                answers[name] += 1
            except (BusyError, InvalidRequestError, NotFoundError, StateError, ExistsError) as error:
                answers[type(error).__name__] += 1
            if number % _LOOK_EVERY == 0:
                guarded.check()
    guarded.check()
    tell(f"{swapper.swaps} swaps, {dict(answers)}")
    assert swapper.swaps > given.count // 10
    assert wanted <= answers.keys()


def _fifo(path: Path, _canary: Path) -> None:
    os.mkfifo(path)


def _socket(path: Path, _canary: Path) -> None:
    os.mknod(path, 0o600 | stat.S_IFSOCK)


def _null(path: Path, _canary: Path) -> None:
    os.mknod(path, 0o600 | stat.S_IFCHR, os.makedev(1, 3))


def _content(path: Path, _canary: Path) -> None:
    path.write_text("content")


def _full(path: Path, _canary: Path) -> None:
    (path / "x").mkdir(parents=True)


def _link(path: Path, elsewhere: Path) -> None:
    path.symlink_to(elsewhere / "full")


def _mounted(path: Path, elsewhere: Path) -> None:
    path.mkdir()
    subprocess.run(["mount", "--bind", str(elsewhere / "full"), str(path)], check=True, timeout=30)


Lay = Callable[[Path, Path], None]


@pytest.mark.parametrize("lay", [_fifo, _socket, _null, _content, _full, _link, _mounted])
@pytest.mark.parametrize("block", [False, True], ids=["file-system", "block"])
def test_what_is_in_the_way_is_refused_and_stays(served: Served, guarded: Canary, lay: Lay, *, block: bool) -> None:
    kubelet = served.place.kubelet_dir
    device = served.create("in the way", block=block)
    served.staged(device)
    staging = Path(served.path(f"staged-{device.handle}"))
    there = kubelet / "there"
    lay(there, guarded.directory)
    before = (there.lstat().st_ino, there.lstat().st_mode, mountinfo.mounts())
    calls = _calls(served, device, staging, there)
    refused = (InvalidRequestError, StateError, NotFoundError)
    for name in ("publish", "publish read-only", "unpublish", "usage", "expand"):
        if lay in (_content, _full) and name.startswith("publish"):
            continue  # what they hold is covered by the mount, and seen again afterwards
        with pytest.raises(refused):
            calls[name]()
        assert (there.lstat().st_ino, there.lstat().st_mode, mountinfo.mounts()) == before, name
    if not block:
        other = served.create("staged in the way")
        if lay is not _full:
            with pytest.raises(refused):
                served.node.stage(other.handle, str(there), Access())
            assert (there.lstat().st_ino, there.lstat().st_mode, mountinfo.mounts()) == before


@pytest.mark.parametrize(
    "path",
    [
        *(
            "{kubelet}/../canary/full",
            "{canary}/full",
            "{canary}/empty/new",
            "{kubelet}x/target",
            "{kubelet}",
            "/",
            "//",
        ),
        *(
            "{kubelet}/link/full",
            "{kubelet}/link/empty/new",
            "{kubelet}/./link/../link/full",
            "relative",
            "",
            "/proc/self",
        ),
        *(
            "{kubelet}/link",
            "{kubelet}/file/target",
            "{kubelet}/a\0b",
            "/..{canary}/empty",
            "{kubelet}/loop/x",
            "/proc/self",
        ),
    ],
)
def test_a_path_that_leads_outside_is_refused(served: Served, guarded: Canary, path: str) -> None:
    kubelet = served.place.kubelet_dir
    (kubelet / "link").symlink_to(guarded.directory)
    (kubelet / "loop").symlink_to("loop")
    (kubelet / "file").touch()
    device = served.create("outside")
    served.staged(device)
    staging = Path(served.path(f"staged-{device.handle}"))
    given = path.format(kubelet=kubelet, canary=guarded.directory)
    seen = mountinfo.mounts()
    node, handle = served.node, device.handle
    calls: tuple[Callable[[], None], ...] = (
        lambda: node.stage(handle, given, Access()),
        lambda: node.publish(handle, str(staging), given, Access(), readonly=False),
        lambda: node.publish(handle, given, str(kubelet / "target"), Access(), readonly=False),
        lambda: node.unpublish(str(handle), given),
        lambda: node.unstage(handle, given),
        lambda: _ignored(node.expand_fs(handle, given)),
        lambda: _ignored(node.usage(handle, given)),
    )
    for call in calls:
        with pytest.raises((InvalidRequestError, NotFoundError, StateError)):
            call()
        assert mountinfo.mounts() == seen


def test_a_volume_mounted_over_anothers_target_is_taken_away_alone(served: Served, guarded: Canary) -> None:
    kubelet = served.place.kubelet_dir
    below, above = served.create("below"), served.create("above")
    target = kubelet / "target"
    staging = {device.handle: Path(served.staged(device)) for device in (below, above)}
    _calls(served, below, staging[below.handle], target)["publish"]()
    with pytest.raises(StateError, match="is mounted there"):
        _calls(served, above, staging[above.handle], target)["publish"]()
    subprocess.run(["mount", "--bind", str(guarded.directory / "full"), str(target)], check=True, timeout=30)
    with pytest.raises(StateError, match="is mounted there, not"):
        served.node.unpublish(str(below.handle), str(target))
    subprocess.run(["umount", str(target)], check=True, timeout=30)
    served.node.unpublish(str(below.handle), str(target))
    assert not target.exists()
