"""The node as it is shipped: compiled, and without what only development needs.

Some libraries load that if it is there.
"""

import compileall
import os
import re
import shutil
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import Final
from unittest.mock import patch

from tests.guest.machine import ROOT

_LOCKED: Final = re.compile(r"^([A-Za-z0-9][A-Za-z0-9._-]*)==", re.MULTILINE)
_OURS: Final = "thinpool-csi"
_REFUSAL: Final = "raise ImportError('not shipped')\n"


def refusals(directory: Path) -> None:
    """Fill ``directory`` with the driver, compiled, and with packages that refuse.

    There is one of these for each that is installed and not in requirements.lock.
    """
    shutil.copytree(Path(ROOT, "csi"), directory / "csi", ignore=shutil.ignore_patterns("__pycache__"))
    compileall.compile_dir(directory / "csi", quiet=1)
    locked = Path(ROOT, "requirements.lock").read_text()
    for name in not_shipped(packages_distributions(), locked):
        (directory / name).mkdir(parents=True)
        (directory / name / "__init__.py").write_text(_REFUSAL)


def not_shipped(installed: Mapping[str, Collection[str]], locked: str) -> list[str]:
    """Return the packages all of whose distributions are missing from a lock file's text."""
    kept = {_normal(name) for name in _LOCKED.findall(locked)} | {_OURS}
    return sorted(
        package
        for package, distributions in installed.items()
        # With an underscore begin extension modules, and what the interpreter itself loads at its start.
        if package.isidentifier()
        and not package.startswith("_")
        and not kept & {_normal(each) for each in distributions}
    )


@contextmanager
def as_shipped(directory: Path) -> Iterator[None]:
    """Let the programs that are started in the body find the refusals first."""
    # Not what lies in the working directory.
    with patch.dict(os.environ, {"PYTHONPATH": str(directory), "PYTHONSAFEPATH": "1"}):
        yield


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
