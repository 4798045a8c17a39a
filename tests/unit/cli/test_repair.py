"""What ``thinpool-csi repair`` says, and which pool it takes."""

from pathlib import Path

import pytest

from csi.__main__ import main
from csi.agent.memory import Memory
from csi.cli.arguments import parser
from csi.cli.place import wanted_pool
from csi.cli.repair import lines, status
from csi.errors import NotFoundError
from csi.volumes.repair import Repaired, Way

LOST = "volume abcdefghij-00000002 (pvc-2)"


def test_sound_metadata_is_left_alone() -> None:
    done = Repaired(Way.NOTHING, "")
    assert lines(done, go=False) == ["thin_check: the metadata is sound", "nothing is to be repaired"]
    assert status(done) == 0


@pytest.mark.parametrize("go", [False, True])
def test_what_was_done_and_what_would_be_are_told_apart(go: bool) -> None:
    for done in (
        Repaired(Way.CLEAR, ""),
        Repaired(Way.WRITE, "bad checksum", (LOST,), devices=1),
        Repaired(Way.SEARCH, "superblock is corrupt"),
    ):
        said = "\n".join(lines(done, go=go))
        assert ("would" in said) is not go
        assert ("do it with --yes" in said) is not go


def test_what_is_lost_is_named_and_where_the_old_metadata_is_too() -> None:
    done = Repaired(Way.WRITE, "bad checksum", (LOST,), 4, catalog_trouble="no file", old="vg/old-metadata-1")
    assert lines(done, go=True) == [
        "the catalog cannot be read: no file",
        "thin_check: bad checksum",
        "new metadata with 4 devices was put in its place",
        f"lost: {LOST}",
        "the old metadata is kept in vg/old-metadata-1",
    ]


@pytest.mark.parametrize(
    ("done", "expected"),
    [
        (Repaired(Way.WRITE, "bad"), 0),
        (Repaired(Way.WRITE, "bad", (LOST,)), 1),
        (Repaired(Way.SEARCH, "bad"), 1),
    ],
)
def test_the_status_is_0_only_where_nothing_is_lost_or_suspect(done: Repaired, expected: int) -> None:
    assert status(done) == expected


def test_the_pool_is_that_of_the_file_or_the_one_that_the_cluster_wanted_last(tmp_path: Path) -> None:
    pools = tmp_path / "pools.yaml"
    pools.write_text("pools:\n  - {name: fast, devices: [/dev/sdb]}\n")
    words = ["repair", "--pool", "fast", "--state-dir", str(tmp_path)]
    assert wanted_pool(parser().parse_args([*words, "--pools", str(pools)])).devices == ("/dev/sdb",)
    with pytest.raises(NotFoundError, match="no pool of this name"):
        wanted_pool(parser().parse_args(words))
    wanted = {"metadata": {"name": "fast"}, "spec": {"devices": ["/dev/sdc"]}}
    node = {"metadata": {"name": "fast.a"}, "spec": {"poolName": "fast", "nodeName": "a"}}
    Memory(tmp_path / "wanted.json").keep({"fast": wanted}, [node], {"fast": "abcdefghij"})
    assert wanted_pool(parser().parse_args(words)).devices == ("/dev/sdc",)


def test_without_root_it_is_not_repaired(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    assert main(["repair", "--pool", "fast", "--yes"]) == 2
    assert "only root may" in capsys.readouterr().err
