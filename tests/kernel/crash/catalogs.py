"""Catalogs that are copied, replaced and rebuilt, and what must hold while a catalog and its pool disagree."""

import contextlib
import hashlib
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from csi.catalog.database import FILE_NAME
from csi.errors import UnavailableError
from csi.model import Device, FsState, Handle, Kind, State
from csi.settings import PoolSpec
from csi.units import GIB, MIB, SECTOR, Bytes
from csi.volumes.node import Node
from csi.volumes.requests import VolumeRequest
from tests.kernel.conftest import run
from tests.kernel.crash.conftest import furnish, remove
from tests.kernel.crash.engine import Engine
from tests.kernel.crash.scene import DATA, SIZE, Scene, give_back, look, only_pool, read, write

GREATER: Final = Bytes(2 * SIZE)
END: Final = b"at the very end"


@contextlib.contextmanager
def opened(base: Path) -> Iterator[Scene]:
    """Open a node on the disk in ``base``, which is made if it is not there, and take everything away afterwards."""
    with open(base / "disk", "ab") as disk:
        disk.truncate(2 * GIB)
    device = run("losetup", "--find", "--show", str(base / "disk")).strip()
    try:
        spec = PoolSpec("default", devices=(device,), overprovision_ratio=20.0, templates=False)
        engine = Engine(base, spec)
        scene = Scene(engine, engine.start())
        try:
            yield scene
        finally:
            if scene.started.alive:
                scene.started.kill()
            remove(engine)
    finally:
        run("losetup", "--detach", device)


def furnished(scene: Scene) -> Scene:
    """Put a file system, a snapshot of it, a raw block volume and a volume never formatted into the pool, at rest."""
    furnish(scene)
    scene.unstage(scene.fixed[0])
    scene.fixed.append(scene.volume())
    return scene


def put_away(scene: Scene) -> None:
    """Take the pool out of the kernel, in good order."""
    scene.do(Node.deactivate)
    scene.started.stop()


def created(scene: Scene) -> None:
    volume = scene.volume()
    write(f"{scene.stage(volume)}/data")
    scene.unstage(volume)


def created_and_deleted(scene: Scene) -> None:
    scene.do(Node.delete_volume, scene.volume().handle)
    scene.do(give_back)


def formatted(scene: Scene) -> None:
    blank = next(device for device in scene.do(look).devices if device.fs_state is FsState.UNFORMATTED)
    write(f"{scene.stage(blank)}/data")
    scene.unstage(blank)


def grown(scene: Scene) -> None:
    idle = scene.fixed[2]
    size = scene.do(Node.expand_volume, idle.handle, GREATER, Bytes(0)).size
    with open(scene.stage(idle), "r+b") as device:
        device.seek(size - SECTOR)
        device.write(END.ljust(SECTOR))
    scene.unstage(idle)


def snapshotted(scene: Scene) -> None:
    scene.do(Node.create_snapshot, scene.name(), scene.fixed[0].handle)


def spare(scene: Scene) -> Device:
    """Return a volume with something in it, at rest."""
    volume = scene.volume(block=True)
    write(scene.stage(volume))
    scene.unstage(volume)
    return volume


def stands_still(scene: Scene) -> None:
    """See that nothing is made, changed or deleted, and that log and check say what to do."""
    keeper, kept, idle, blank = scene.fixed
    before = scene.do(look)
    sent = changes(scene)
    assert before.guard
    assert "check --rebuild" in "".join(scene.engine.said.splitlines()[-3:])
    request = VolumeRequest(scene.name(), SIZE)
    for attempt in (
        lambda: scene.do(Node.create_volume, request),
        lambda: scene.do(Node.create_volume, VolumeRequest(request.name, source=kept.handle)),
        lambda: scene.do(Node.create_snapshot, request.name, keeper.handle),
        lambda: scene.do(Node.create_group, request.name, [keeper.handle, idle.handle]),
        lambda: scene.do(Node.expand_volume, keeper.handle, Bytes(2 * GREATER), Bytes(0)),
        lambda: scene.do(Node.delete_volume, idle.handle),
        lambda: scene.do(Node.delete_snapshot, kept.handle),
    ):
        with pytest.raises(UnavailableError, match="rebuild"):
            attempt()
    if any(device.handle == blank.handle and device.fs_state is FsState.UNFORMATTED for device in before.devices):
        # It would be formatted.
        with pytest.raises(UnavailableError, match="rebuild"):
            scene.stage(blank)
    assert scene.do(Node.capacity, None).available == 0
    assert scene.do(Node.check).findings
    scene.do(give_back)
    assert scene.do(look) == before
    assert changes(scene) == sent, "the pool was changed"


def changes(scene: Scene) -> list[str]:
    """Return the messages that changed the pool."""
    return [line for line in scene.engine.messages.read_text().splitlines() if "metadata_snap" not in line]


def knows_its_own(scene: Scene) -> None:
    """See that what the catalog knows can be used as ever."""
    keeper = scene.fixed[0]
    assert read(f"{scene.stage(keeper)}/data") == hashlib.sha256(DATA).hexdigest()
    scene.unstage(keeper)


def rebuilt(scene: Scene) -> tuple[set[Handle], set[Handle]]:
    """Rebuild; see that nothing left the pool and that it serves again; return what is lost and what is strange."""
    before = scene.do(look)
    ids = {int(line.split()[1]) for line in changes(scene) if line.startswith("create")}
    scene.do(Node.check, rebuild=True)
    scene.restart()
    after = scene.do(look)
    assert not after.guard
    assert after.present >= before.present
    lost = {device.handle for device in after.devices if device.state is State.LOST}
    assert {device.handle.thin for device in after.devices if device.state is not State.LOST} == after.present
    assert not any(device.fs_state in (FsState.UNFORMATTED, FsState.FORMATTING) for device in after.devices)
    volume = scene.volume(MIB, block=True)
    assert volume.handle.thin > max(ids)
    write(scene.stage(volume))
    scene.unstage(volume)
    return lost, {device.handle for device in after.devices if device.kind is Kind.QUARANTINED}


def serve_with(scene: Scene, copy: Path) -> None:
    """Replace the catalog of a node that is dead by the copy, and start another one."""
    (directory,) = scene.engine.run_dir.glob("*/catalog")
    for left in directory.glob(f"{FILE_NAME}*"):
        left.unlink()
    for file in copy.iterdir():
        shutil.copy(file, directory)
    scene.started = scene.engine.start()


def catalog_file(node: Node) -> Path:
    return only_pool(node).catalog_dir / FILE_NAME


def copy_catalog(node: Node, copy: Path) -> None:
    """Copy the catalog's files as they are."""
    copy.mkdir()
    for file in catalog_file(node).parent.glob(f"{FILE_NAME}*"):
        shutil.copy(file, copy)
