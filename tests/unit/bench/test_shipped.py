"""What is installed and not shipped."""

import os
import subprocess
import sys
from pathlib import Path

from bench.shipped import as_shipped, not_shipped, refusals

LOCKED = """\
grpcio==1.85.3 \\
    --hash=sha256:00
python-dateutil==4.0.0
"""


def test_what_is_not_locked_is_not_shipped() -> None:
    installed = {"grpc": ["grpcio"], "rich": ["rich"], "csi": ["thinpool-csi"], "dateutil": ["python_dateutil"]}
    assert not_shipped(installed, LOCKED) == ["rich"]


def test_a_package_that_something_shipped_brings_too_is_shipped() -> None:
    assert not_shipped({"google": ["types-protobuf", "grpcio"]}, LOCKED) == []


def test_what_the_interpreter_loads_at_its_start_stays() -> None:
    assert not_shipped({"_distutils_hack": ["setuptools"], "google-stubs": ["types-protobuf"]}, LOCKED) == []


def test_a_program_of_the_body_finds_nothing_that_is_not_shipped(tmp_path: Path) -> None:
    refusals(tmp_path)
    before = os.environ.get("PYTHONPATH")
    with as_shipped(tmp_path):
        argv = [sys.executable, "-c", "import csi.__main__, grpc\nimport pytest"]
        done = subprocess.run(argv, check=False, capture_output=True, text=True, timeout=60)
    assert os.environ.get("PYTHONPATH") == before
    assert done.stderr.strip().endswith("ImportError: not shipped")
    assert "line 2, in <module>" in done.stderr
