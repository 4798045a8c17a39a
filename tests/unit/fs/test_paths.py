"""Paths from outside are confined: nothing outside the root is touched, whatever they say."""

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from csi.errors import DriverError, InvalidRequestError, KernelError, NotFoundError, StateError
from csi.fs.paths import PATH_LIMIT, Root


@pytest.fixture
def root(tmp_path: Path) -> Root:
    (tmp_path / "kubelet" / "pods").mkdir(parents=True)
    (tmp_path / "outside").mkdir()
    return Root(str(tmp_path / "kubelet"))


def tree(path: Path) -> list[str]:
    return sorted(str(each) for each in path.rglob("*"))


@pytest.mark.parametrize(
    "path",
    [
        "",
        "pods/x",
        "/",
        "/etc/passwd",
        "{root}",
        "{root}/",
        "{root}/.",
        "{root}er/x",
        "{root}/../outside",
        "{root}/pods/../../outside/x",
        "{root}/pods/..",
        "{root}/pods/a\0b",
        "{root}/" + "a" * 256,
        "{root}/" + "a/" * PATH_LIMIT,
        "{root}/\ud800",
    ],
)
@pytest.mark.parametrize("act", ["directory", "file", "remove", "mounted", "parent"])
def test_a_hostile_path_is_refused_and_nothing_is_changed(root: Root, tmp_path: Path, path: str, act: str) -> None:
    path = path.replace("{root}", root.path)
    before = tree(tmp_path)
    assert not root.contains(path)
    with pytest.raises(InvalidRequestError) as caught:
        enter(root, act, path)
    assert tree(tmp_path) == before
    assert len(str(caught.value)) < 600


def enter(root: Root, act: str, path: str) -> None:
    if act == "directory":
        with root.directory(path, create=True):
            pass
    elif act == "file":
        with root.file(path, create=True):
            pass
    elif act == "parent":
        with root.parent(path):
            pass
    elif act == "remove":
        root.remove(path)
    else:
        root.mounted(path)


@given(st.lists(st.sampled_from(["..", ".", "", "a", "pods", "x\0"]), max_size=8))
def test_what_is_accepted_never_climbs(parts: list[str]) -> None:
    root = Root("/var/lib/kubelet")
    try:
        below = root.split("/var/lib/kubelet/" + "/".join(parts))
    except InvalidRequestError:
        return
    assert below
    assert not {"..", ".", ""} & set(below)


def test_the_root_must_be_absolute() -> None:
    with pytest.raises(InvalidRequestError):
        Root("var/lib/kubelet")


def test_a_missing_root_is_said(tmp_path: Path) -> None:
    with (
        pytest.raises(KernelError, match="directory of all targets"),
        Root(f"{tmp_path}/no").directory(f"{tmp_path}/no/x"),
    ):
        pass


def test_the_root_itself_may_be_reached_over_a_link(root: Root, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(root.path)
    with Root(f"{tmp_path}/link").directory(f"{tmp_path}/link/pods/a", create=True):
        assert os.path.isdir(f"{root.path}/pods/a")


def test_makes_the_last_component_only(root: Root) -> None:
    with root.directory(f"{root.path}/pods/a", create=True) as place:
        assert os.path.samestat(os.fstat(place.fd), os.stat(f"{root.path}/pods/a"))
        assert os.path.samestat(os.stat(place.proc), os.stat(f"{root.path}/pods/a"))
    with pytest.raises(NotFoundError), root.directory(f"{root.path}/pods/b/c", create=True):
        pass
    with pytest.raises(NotFoundError), root.directory(f"{root.path}/pods/b"):
        pass


def test_making_twice_is_the_same_as_once(root: Root) -> None:
    for _ in range(2):
        with root.directory(f"{root.path}//pods/./a/", create=True), root.file(f"{root.path}/pods/f", create=True):
            pass
    assert tree(Path(root.path)) == [f"{root.path}/{each}" for each in ("pods", "pods/a", "pods/f")]


def test_descriptors_are_closed_again(root: Root) -> None:
    before = os.listdir("/proc/self/fd")
    with root.directory(f"{root.path}/pods/a", create=True):
        assert len(os.listdir("/proc/self/fd")) > len(before)
    with pytest.raises(DriverError), root.file(f"{root.path}/pods/a/b/c"):
        pass
    assert len(os.listdir("/proc/self/fd")) == len(before)


@pytest.mark.parametrize("link_to", ["{outside}", "{root}/pods", "/does/not/exist"])
@pytest.mark.parametrize("act", ["directory", "file", "remove", "mounted", "parent"])
def test_a_link_on_the_way_is_refused_wherever_it_leads(root: Root, tmp_path: Path, link_to: str, act: str) -> None:
    link_to = link_to.replace("{outside}", str(tmp_path / "outside")).replace("{root}", root.path)
    os.symlink(link_to, f"{root.path}/link")
    before = tree(tmp_path)
    with pytest.raises(InvalidRequestError, match="symbolic link"):
        enter(root, act, f"{root.path}/link/x")
    assert tree(tmp_path) == before


@pytest.mark.parametrize("act", ["directory", "file", "remove", "mounted"])
def test_a_link_at_the_end_is_refused(root: Root, tmp_path: Path, act: str) -> None:
    (tmp_path / "outside" / "file").touch()
    os.symlink(tmp_path / "outside" / ("file" if act == "file" else ""), f"{root.path}/link")
    before = tree(tmp_path)
    with pytest.raises(InvalidRequestError):
        enter(root, act, f"{root.path}/link")
    assert tree(tmp_path) == before


def test_a_component_replaced_after_it_was_opened_redirects_nothing(root: Root, tmp_path: Path) -> None:
    with root.directory(f"{root.path}/pods/a", create=True) as place:
        os.rename(f"{root.path}/pods/a", f"{root.path}/pods/old")
        os.symlink(tmp_path / "outside", f"{root.path}/pods/a")
        assert os.path.samestat(os.stat(place.proc), os.stat(f"{root.path}/pods/old"))


def test_a_directory_is_no_file_and_a_file_no_directory(root: Root) -> None:
    Path(root.path, "file").touch()
    with pytest.raises(InvalidRequestError), root.directory(f"{root.path}/file", create=True):
        pass
    with pytest.raises(InvalidRequestError), root.file(f"{root.path}/pods", create=True):
        pass
    os.mkfifo(f"{root.path}/fifo")
    with pytest.raises(InvalidRequestError), root.file(f"{root.path}/fifo", create=True):
        pass


def test_removes_an_empty_directory_or_file_and_what_is_gone_already(root: Root) -> None:
    Path(root.path, "file").touch()
    for name in ("file", "pods", "pods", "pods/deeper"):
        root.remove(f"{root.path}/{name}")
    assert os.listdir(root.path) == []


def test_never_removes_content(root: Root) -> None:
    Path(root.path, "pods", "data").write_text("kept")
    for name in ("pods", "pods/data"):
        with pytest.raises(StateError):
            root.remove(f"{root.path}/{name}")
    assert Path(root.path, "pods", "data").read_text() == "kept"


def test_tells_a_mount_from_none() -> None:
    mount = Root("/").mounted("/proc")
    assert mount is not None
    assert mount.fs_type == "proc"
    assert Root("/").mounted("/proc/sys/kernel") is None
    assert Root("/").mounted("/does-not-exist") is None


def test_a_plain_file_is_no_block_device(root: Root) -> None:
    with root.file(f"{root.path}/pods/f", create=True) as place:
        assert place.device() is None
