"""Every figure of the benchmark is measured, in its small form."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

from bench.goals import GOALS
from tests.guest.machine import ROOT

GUEST: Final = ["--disk", "24G", "--disk", "24G"]
"""Besides the two of 8 GiB."""
_LIMIT: Final = 900


@pytest.mark.timeout(_LIMIT)
def test_every_figure_is_measured_told_and_written(tmp_path: Path) -> None:
    small, _, *large = os.environ["THINPOOL_TEST_DISKS"].split()
    disks = [*large, small]
    argv = [sys.executable, "-m", "bench", "--quick", "--output", str(tmp_path), "--disks", ",".join(disks)]
    done = subprocess.run(argv, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True, timeout=_LIMIT)
    told = dict(line.split() for line in done.stdout.split("\n\n")[-1].splitlines())
    assert told.keys() == GOALS.keys()
    assert all(float(value) > 0 for value in told.values())
    written = json.loads((tmp_path / "results.json").read_text())
    assert written["figures"].keys() == GOALS.keys()
    assert "</svg>" in (tmp_path / "results.svg").read_text()
    # Nothing of it is left.
    for disk in disks:
        assert not subprocess.run(["wipefs", "--noheadings", disk], check=True, stdout=subprocess.PIPE).stdout
