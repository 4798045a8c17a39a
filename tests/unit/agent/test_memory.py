"""What a node keeps of the cluster's wishes, and what it makes of a file that is no good."""

from pathlib import Path
from typing import Any

from csi.agent.memory import Memory

KNOWN = {"fast": "aaaaaaaaaa"}


def thin_pool(name: str, **spec: object) -> dict[str, Any]:
    return {"metadata": {"name": name, "generation": 2, "labels": {"a": "b"}}, "spec": spec}


def thin_pool_node(pool: str, **spec: object) -> dict[str, Any]:
    metadata = {"name": f"{pool}.a", "uid": "u"}
    return {
        "metadata": metadata,
        "spec": {"poolName": pool, "nodeName": "a", **spec},
        "status": {"volumes": 3},
    }


def test_what_was_made_here_is_recalled(tmp_path: Path) -> None:
    pools = {name: thin_pool(name, devices=["/dev/sdb"]) for name in ("fast", "new", "other")}
    nodes = [thin_pool_node("fast", lost=True), thin_pool_node("new"), thin_pool_node("deleted")]
    known = KNOWN | {"new": "", "deleted": "bbbbbbbbbb"}
    Memory(tmp_path / "state/wanted.json").keep(pools, nodes, known)
    ((pool, node),) = Memory(tmp_path / "state/wanted.json").recall()
    assert pool["metadata"] == {"name": "fast", "generation": 2}
    assert pool["spec"] == {"devices": ["/dev/sdb"]}
    assert (node["spec"]["lost"], node["status"]) == (True, {"poolID": "aaaaaaaaaa"})


def test_figures_alone_write_nothing(tmp_path: Path) -> None:
    memory = Memory(tmp_path / "wanted.json")
    memory.keep({"fast": thin_pool("fast")}, [thin_pool_node("fast")], KNOWN)
    (tmp_path / "wanted.json").unlink()
    changed = thin_pool_node("fast")
    changed["status"]["volumes"] = 4
    memory.keep({"fast": thin_pool("fast")}, [changed], KNOWN)
    assert not (tmp_path / "wanted.json").exists()
    memory.keep({"fast": thin_pool("fast", trim="off")}, [changed], KNOWN)
    assert (tmp_path / "wanted.json").exists()


def test_no_file_and_a_bad_one_recall_nothing(tmp_path: Path) -> None:
    memory = Memory(tmp_path / "wanted.json")
    assert memory.recall() == []
    for text in ("", "{", "[]", '{"pools": [], "poolNodes": [{"spec": {"poolName": "fast"}}]}'):
        (tmp_path / "wanted.json").write_text(text)
        assert memory.recall() == []


def test_a_place_that_cannot_be_written_is_no_fault(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    Memory(tmp_path / "file/wanted.json").keep({"fast": thin_pool("fast")}, [thin_pool_node("fast")], KNOWN)
