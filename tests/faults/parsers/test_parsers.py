"""Whatever is read from outside, a parser gives an answer or an error that it names, and nothing else."""

import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

from tests.faults.parsers.fuzz import ALL, LOG
from tests.faults.rounds import Rounds, rounds
from tests.guest.machine import ROOT

_SHORT: Final = 3000
_SEEDS: Final = 1 << 31
"""libFuzzer's are that many."""

Fuzzed = tuple[Path, Rounds]


@pytest.fixture(scope="module")
def fuzzed(tmp_path_factory: pytest.TempPathFactory) -> Fuzzed:
    """Feed all parsers, and return where what they said is."""
    given = rounds(_SHORT)
    home = tmp_path_factory.mktemp("parsers")
    argv = [sys.executable, "-m", "tests.faults.parsers.fuzz"]
    subprocess.run([*argv, str(home), str(given.count), str(given.seed % _SEEDS)], cwd=ROOT, check=False)
    return home, given


@pytest.mark.timeout(0)
@pytest.mark.parametrize("name", ALL)
def test_a_parser_raises_what_it_names_and_nothing_else(name: str, fuzzed: Fuzzed) -> None:
    home, given = fuzzed
    said = (home / name / LOG).read_text(errors="replace")
    assert f"Done {given.count} runs" in said, f"SEED={given.seed}\n{said[-6000:]}"
    assert not [found.name for found in (home / name).iterdir() if found.name not in (LOG, "corpus")], said[-6000:]


@pytest.mark.parametrize("name", ALL)
def test_the_first_sample_is_one_that_a_parser_takes(name: str) -> None:
    ALL[name].read(ALL[name].samples[0])
