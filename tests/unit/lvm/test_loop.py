"""Loop devices on a pool's two files."""

import json
from pathlib import Path

import pytest

from csi.errors import BusyError, CommandError, KernelError
from csi.lvm import loop
from csi.lvm.loop import LoopFile, LoopPair
from csi.settings import LoopSize
from csi.units import GIB, MIB, Bytes
from tests.unit.lvm.conftest import Programs

SIZES = LoopSize(Bytes(3 * GIB), Bytes(200 * MIB))


@pytest.fixture
def losetup(programs: Programs) -> Programs:
    programs.add("losetup")
    programs.answer("losetup.--json", "")
    programs.answer("losetup.--find", "/dev/loop7\n")
    return programs


def test_files_are_sparse_and_private_and_attached_with_direct_io(losetup: Programs, tmp_path: Path) -> None:
    home = tmp_path / "loop" / "try"
    pair = LoopPair.make(home, SIZES, path=losetup.path)
    assert pair == LoopPair(LoopFile(home / "data", "/dev/loop7"), LoopFile(home / "metadata", "/dev/loop7"))
    assert (home / "data").stat().st_size == 3 * GIB
    assert (home / "metadata").stat().st_size == 200 * MIB
    for file in (home / "data", home / "metadata"):
        assert file.stat().st_blocks == 0
        assert file.stat().st_mode & 0o777 == 0o600
    assert home.stat().st_mode & 0o777 == 0o700
    assert [call[1:-1] for call in losetup.calls[:3]] == [
        ["--json", "--list", "--output", "NAME", "--associated", f"{home}/data"],
        ["--find", "--show", f"{home}/data"],
        ["--direct-io=on", "/dev/loop7"],
    ]


def test_a_file_system_without_direct_io_will_do(losetup: Programs, tmp_path: Path) -> None:
    losetup.answer("losetup.--direct-io=on", stderr="set direct io failed", status=1)
    assert LoopPair.make(tmp_path / "x", SIZES, path=losetup.path).devices == ("/dev/loop7", "/dev/loop7")


def test_an_attached_file_is_not_attached_twice(losetup: Programs, tmp_path: Path) -> None:
    losetup.answer("losetup.--json", json.dumps({"loopdevices": [{"name": "/dev/loop3"}]}))
    assert LoopPair.make(tmp_path / "x", SIZES, path=losetup.path).devices == ("/dev/loop3", "/dev/loop3")
    assert all(call[1] == "--json" for call in losetup.calls)


def test_files_never_made_are_not_attached(losetup: Programs, tmp_path: Path) -> None:
    assert LoopPair.attach(tmp_path / "x", path=losetup.path) is None
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / "data").touch()
    assert LoopPair.attach(tmp_path / "x", path=losetup.path) is None
    assert losetup.calls == []


def test_a_file_cut_short_is_completed_and_a_larger_one_left_alone(losetup: Programs, tmp_path: Path) -> None:
    home = tmp_path / "x"
    home.mkdir()
    (home / "data").write_bytes(b"ours")
    with (home / "metadata").open("wb") as larger:
        larger.truncate(GIB)
    LoopPair.make(home, SIZES, path=losetup.path)
    with (home / "data").open("rb") as data:
        assert data.read(8) == b"ours\0\0\0\0"
    assert (home / "data").stat().st_size == 3 * GIB
    assert (home / "metadata").stat().st_size == GIB


def test_a_symlink_is_not_followed(losetup: Programs, tmp_path: Path) -> None:
    home = tmp_path / "x"
    home.mkdir()
    (home / "data").symlink_to("/etc/passwd")
    with pytest.raises(KernelError, match="ELOOP"):
        LoopPair.make(home, SIZES, path=losetup.path)


def test_two_processes_do_not_attach_at_once(losetup: Programs, tmp_path: Path) -> None:
    LoopPair.make(tmp_path / "x", SIZES, path=losetup.path)
    with loop._exclusive(tmp_path / "x"), pytest.raises(BusyError, match="another process"):
        LoopPair.attach(tmp_path / "x", path=losetup.path)


def test_only_a_device_that_is_still_on_the_file_is_detached(losetup: Programs, tmp_path: Path) -> None:
    pair = LoopPair.make(tmp_path / "x", SIZES, path=losetup.path)
    losetup.forget()
    pair.detach(path=losetup.path)
    assert all(call[1] == "--json" for call in losetup.calls)
    losetup.answer("losetup.--json", json.dumps({"loopdevices": [{"name": "/dev/loop7"}]}))
    pair.detach(path=losetup.path)
    assert ["losetup", "--detach", "/dev/loop7"] in [call[:-1] for call in losetup.calls]


@pytest.mark.parametrize("answer", ["nonsense", "{}", '{"loopdevices": [{}]}', "[1]", "[" * 6000])
def test_an_answer_that_is_none_is_an_error(answer: str, losetup: Programs, tmp_path: Path) -> None:
    losetup.answer("losetup.--json", answer)
    with pytest.raises(CommandError, match="losetup"):
        LoopPair.make(tmp_path / "x", SIZES, path=losetup.path)
