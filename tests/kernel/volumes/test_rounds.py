"""Two hundred lives of volumes leave nothing behind: no device, no link, no mount, no row. With udev and without."""

import contextlib
import os
import subprocess
from pathlib import Path

import pytest

from csi.fs import mountinfo
from csi.model import FsType
from csi.units import MIB
from tests.kernel.conftest import run, wait_until
from tests.kernel.volumes.served import Served

_ROUNDS = 200
_UDEV = Path("/run/udev/control").exists()


def _settle() -> None:
    if _UDEV:
        # It is slow in a guest, and far behind after many rounds.
        subprocess.run(["udevadm", "settle", "--timeout=240"], check=True, timeout=250)


def _links() -> list[str]:
    """Return every entry by which a device can be found under /dev."""
    return sorted(str(path) for path in Path("/dev").rglob("*") if not path.is_dir() or path.is_symlink())


def _processes() -> list[str]:
    """Return the names of all processes and kernel threads, less those that the kernel starts and ends as it likes."""
    found = []
    for file in Path("/proc").glob("[0-9]*/comm"):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            found.append(file.read_text().strip())
    return sorted(name for name in found if not name.startswith(("kworker/", "ext4lazyinit")))


def _surroundings() -> dict[str, object]:
    _settle()
    return {
        "devices": sorted(run("dmsetup", "ls").split("\n")),
        "links": [link for link in _links() if not link.startswith(("/dev/pts/", "/dev/shm/"))],
        "mounts": [(mount.mount_point, mount.source) for mount in mountinfo.mounts()],
        "blocks": sorted(os.listdir("/sys/block")),
        "processes": _processes() if not _UDEV else [],
    }


@pytest.mark.timeout(600)
def test_two_hundred_rounds_leave_nothing_behind(served: Served) -> None:
    source = served.create("source", 16 * MIB)
    Path(served.staged(source), "file").write_text("source")
    served.unstage(source)
    before = _surroundings()
    for number in range(_ROUNDS):
        # Half of them raw: making 200 file systems would only take longer.
        kind = number % 4
        if kind == 0:
            volume = served.create(f"v{number}", 16 * MIB)
        elif kind == 1:
            volume = served.copy(f"v{number}", source.handle)
        else:
            volume = served.create(f"v{number}", 16 * MIB, block=True)
        place = served.staged(volume)
        if volume.fs_type is None:
            with open(place, "r+b", buffering=0) as device:
                device.write(bytes([number]))
        else:
            Path(place, "file").write_text(str(number))
        served.unstage(volume)
        assert not served.active(volume.handle)
        served.node.delete_volume(volume.handle)
    served.reclaimed()
    # What a kernel thread still has to do takes a moment.
    with contextlib.suppress(AssertionError):
        wait_until(lambda: _surroundings() == before, 30)
    assert _surroundings() == before
    assert [device.handle for device in served.devices()] == [source.handle]
    assert served.node.check().findings == ()


def test_a_volume_in_use_has_its_node_and_no_link_by_what_it_holds(served: Served) -> None:
    volume = served.create("v", fs_type=FsType.EXT4)
    served.staged(volume)
    _settle()
    thin = served.pool.device(volume.handle.thin)
    assert os.path.exists(thin.path)
    uuid = run("blkid", "--probe", "--output", "value", "--match-tag", "UUID", thin.path).strip()
    links = _links()
    assert not any(uuid in link for link in links)
    # Only udev makes this one, and nothing here needs it.
    assert (f"/dev/mapper/{volume.handle.device}" in links) == _UDEV
    served.unstage(volume)
    _settle()
    assert not any(volume.handle.device in link for link in _links())


def test_nobody_else_holds_a_volume_open_when_it_is_let_go(served: Served) -> None:
    """Where there is udev it may look at a device that appears: it must not keep it from going at once."""
    volume = served.create("v", 16 * MIB, block=True)
    for number in range(20):
        with open(served.staged(volume), "r+b", buffering=0) as device:
            # A write that is closed makes udev look again where it watches.
            device.write(bytes([number]) * 4096)
        served.unstage(volume)
        done = subprocess.run(["dmsetup", "info", volume.handle.device], check=False, capture_output=True, timeout=30)
        assert done.returncode
