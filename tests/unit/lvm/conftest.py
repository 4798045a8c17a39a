"""A fake ``lvm`` (and whatever else is asked for) on a search path of its own, which records how it was called."""

import json
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest


class Programs:
    """A directory of fake programs. Each call is recorded; the answer is what was set for the program's first words."""

    def __init__(self, home: Path) -> None:
        self._home = home
        self._log = home / "calls"
        self.path = str(home / "bin")
        (home / "bin").mkdir()
        (home / "answers").mkdir()

    def add(self, name: str) -> None:
        """Make a program: it answers nothing and succeeds until told otherwise."""
        program = self._home / "bin" / name
        program.write_text(f"""#!/bin/sh
{{ for word in {name} "$@"; do printf '%s\\001' "$word"; done
   printf 'LVM_SYSTEM_DIR=%s' "${{LVM_SYSTEM_DIR-unset}}"; printf '\\n'; }} >>{self._log}
for answer in {self._home}/answers/{name}.$1 {self._home}/answers/{name}; do
    if [ -e "$answer" ]; then
        . "$answer"
    fi
done
""")
        program.chmod(program.stat().st_mode | stat.S_IXUSR)

    def answer(self, name: str, stdout: str = "", *, stderr: str = "", status: int = 0) -> None:
        """Set what a program (``lvm``), or one command of it (``lvm.fullreport``), answers from now on."""
        answers = self._home / "answers"
        for stream, text in (("out", stdout), ("err", stderr)):
            (answers / f"{name}.{stream}").write_text(text)
        shown = f"/bin/cat {answers}/{name}.out; /bin/cat {answers}/{name}.err >&2; exit {status}\n"
        (answers / name).write_text(shown)

    def forget(self) -> None:
        """Forget what was recorded."""
        self._log.unlink(missing_ok=True)

    @property
    def calls(self) -> list[list[str]]:
        """Every call's words, and as the last one the value of LVM_SYSTEM_DIR."""
        if not self._log.exists():
            return []
        return [line.split("\1") for line in self._log.read_text().splitlines()]

    def changes(self) -> list[list[str]]:
        """Return the words of each LVM command that changes something, without devices and configuration."""
        return [words for words in map(bare, self.calls) if words[0] != "fullreport"]


def bare(call: Sequence[str]) -> list[str]:
    """Return an LVM call's command and own words."""
    words = [call[1]]
    rest = list(call[2:-1])
    while rest:
        word = rest.pop(0)
        if word in {"--devices", "--config"}:
            rest.pop(0)
        else:
            words.append(word)
    return words


@pytest.fixture
def programs(tmp_path: Path) -> Programs:
    """Make a search path with a fake ``lvm``."""
    home = tmp_path / "programs"
    home.mkdir()
    made = Programs(home)
    made.add("lvm")
    return made


def pv_row(name: str = "/dev/sdb", **fields: str) -> dict[str, str]:
    """Return a row of a pv report."""
    row = {"pv_name": name, "pv_uuid": f"uuid-{name}", "pv_major": "8", "pv_minor": "16", "pv_size": "10733223936"}
    row |= {"pv_free": "222298112", "pv_missing": "", "pv_in_use": "used"}
    return row | fields


def lv_row(name: str, **fields: str) -> dict[str, str]:
    """Return a row of an lv report."""
    row = {"lv_name": name, "lv_uuid": f"lv-{name}", "lv_size": "33554432", "lv_tags": "", "lv_layout": "linear"}
    row |= {"lv_active": "active", "lv_kernel_minor": "3", "lv_health_status": "", "lv_check_needed": ""}
    return row | {"lv_when_full": ""} | fields


def vg_row(**fields: str) -> dict[str, str]:
    """Return a row of a vg report: a finished pool of node-a."""
    row = {"vg_name": "thinpool-abcdefghij", "vg_uuid": "kgJKKL-dFdY", "vg_systemid": "thinpool-csi.node-a"}
    tags = "thinpool-csi.dev,thinpool-csi.id=abcdefghij,thinpool-csi.pool=fast"
    row |= {"vg_tags": tags, "vg_extent_size": "4194304", "vg_extent_count": "2559", "vg_free_count": "53"}
    return row | {"vg_missing_pv_count": "0"} | fields


def pool_rows() -> dict[str, list[dict[str, str]]]:
    """Return the lv and seg reports of a finished, active pool."""
    pool = {"lv_layout": "thin,pool", "lv_size": "10196353024", "lv_when_full": "queue", "lv_kernel_minor": "2"}
    volumes = [
        lv_row("pool", **pool),
        lv_row("catalog", lv_tags="thinpool-csi.fresh"),
        lv_row("pool_tmeta", lv_size="104857600", lv_kernel_minor="0"),
    ]
    return {"lv": volumes, "seg": [{"lv_uuid": "lv-pool", "chunk_size": "65536"}]}


def report(*entries: dict[str, Any]) -> str:
    """Return the text of a full report."""
    return json.dumps({"report": entries})
