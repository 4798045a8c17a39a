"""A catalog that is older than its pool, gone or damaged: creation stops, and the start says what to do.

Nothing is handed out twice, nothing is deleted, and with the right catalog put back all is as it was.
"""

import contextlib
import os
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from unittest.mock import patch

import pytest

from csi.errors import UnavailableError
from csi.volumes import cutting, group
from csi.volumes.node import Node
from tests.kernel.crash.catalogs import (
    catalog_file,
    copy_catalog,
    created,
    created_and_deleted,
    formatted,
    furnished,
    grown,
    knows_its_own,
    opened,
    serve_with,
    snapshotted,
    spare,
    stands_still,
)
from tests.kernel.crash.engine import NotServingError
from tests.kernel.crash.scene import Scene, give_back, look


@pytest.fixture(scope="module")
def module_scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    """Serve a pool, which goes on whenever its right catalog is put back."""
    with opened(tmp_path_factory.mktemp("catalog")) as scene:
        yield furnished(scene)
        scene.no_id_used_twice()


# -- ten minutes ago --------------------------------------------------------------------------------------------------


def _deleted(scene: Scene) -> None:
    scene.do(Node.delete_volume, spare(scene).handle)
    scene.do(give_back)


def _deleted_in_part(scene: Scene) -> None:
    scene.do(Node.delete_volume, spare(scene).handle)
    scene.dies_at("discard.half", give_back)


def _cut(scene: Scene) -> None:
    """To take it back, as after a crash, would delete what somebody was promised."""
    _cut_while_copied(scene, Node.create_snapshot, scene.name(), scene.fixed[0].handle)


def _cut_as_a_group(scene: Scene) -> None:
    _cut_while_copied(scene, Node.create_group, scene.name(), [scene.fixed[0].handle])


def _cut_while_copied(scene: Scene, function: Callable[..., object], *args: object) -> None:
    """Cut a snapshot, with the catalog copied as it is right before the outcome is recorded."""
    keeper = scene.fixed[0]
    scene.stage(keeper)
    shutil.rmtree(scene.engine.base / "ago")
    scene.do(_copying_in_the_middle, scene.engine.base / "ago", function, *args)
    scene.unstage(keeper)


def _copying_in_the_middle(node: Node, copy: Path, function: Callable[..., object], *args: object) -> None:
    def hit(name: str) -> None:
        if name in ("cut.after-thaw", "group.after-thaw"):
            copy_catalog(node, copy)

    with patch.object(cutting, "hit", hit), patch.object(group, "hit", hit):
        function(node, *args)


AGO = [
    created,
    _deleted,
    _deleted_in_part,
    created_and_deleted,
    formatted,
    grown,
    snapshotted,
    _cut,
    _cut_as_a_group,
]


@pytest.mark.parametrize("since", AGO, ids=lambda since: since.__name__.strip("_").replace("_", "-"))
def test_a_catalog_of_ten_minutes_ago_stops_everything(module_scene: Scene, since: Callable[[Scene], None]) -> None:
    scene = module_scene
    if since is formatted:
        scene.volume()
    with _ago(scene, since):
        assert "older than the pool" in scene.do(look).guard or since in (created, snapshotted)
        stands_still(scene)
    knows_its_own(scene)


def test_a_catalog_of_an_earlier_start_in_which_nothing_has_changed_serves(module_scene: Scene) -> None:
    scene = module_scene
    with _ago(scene, Scene.restart):
        assert not scene.do(look).guard
        knows_its_own(scene)


@contextlib.contextmanager
def _ago(scene: Scene, since: Callable[[Scene], None]) -> Iterator[None]:
    """Have a node serve for the body with the catalog from before ``since``, and afterwards with the right one."""
    ago, now = scene.engine.base / "ago", scene.engine.base / "now"
    scene.do(copy_catalog, ago)
    since(scene)
    scene.do(copy_catalog, now)
    scene.started.kill()
    serve_with(scene, ago)
    try:
        yield
    finally:
        scene.started.kill()
        serve_with(scene, now)
        shutil.rmtree(ago)
        shutil.rmtree(now)
    assert not scene.do(look).guard


# -- none, or none that can be read -----------------------------------------------------------------------------------


def _remove(file: Path) -> None:
    file.unlink()


def _empty(file: Path) -> None:
    os.truncate(file, 0)


def _overwrite(file: Path) -> None:
    file.write_bytes(os.urandom(file.stat().st_size))


def _overwrite_in_part(file: Path) -> None:
    with file.open("r+b") as stream:
        stream.seek(4096)
        stream.write(os.urandom(3 * 4096))


@pytest.mark.parametrize(
    "spoil", [_remove, _empty, _overwrite, _overwrite_in_part], ids=lambda spoil: spoil.__name__.strip("_")
)
def test_a_catalog_that_is_gone_or_spoilt_stops_everything(module_scene: Scene, spoil: Callable[[Path], None]) -> None:
    scene = module_scene
    with _ago(scene, Scene.restart):
        file = scene.do(catalog_file)
        scene.started.stop()
        spoil(file)
        scene.started = scene.engine.start()
        stands_still(scene)
        for function in (Node.volume, Node.delete_volume):
            # Not known is not gone.
            with pytest.raises(UnavailableError, match="rebuild"):
                scene.do(function, scene.fixed[0].handle)


def test_a_catalog_of_another_pool_is_not_served_and_not_given_up(module_scene: Scene) -> None:
    scene = module_scene
    file = scene.do(catalog_file)
    scene.started.stop()
    _name(file, "otherpool2")
    with pytest.raises(NotServingError, match="put the pool's own catalog back"):
        scene.engine.start()
    _name(file, scene.fixed[0].handle.pool)
    scene.started = scene.engine.start()
    knows_its_own(scene)


def _name(file: Path, pool: str) -> None:
    with contextlib.closing(sqlite3.connect(file)) as catalog, catalog:
        catalog.execute("UPDATE pool SET pool_id = ?", (pool,))
