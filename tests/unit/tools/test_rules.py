"""The rules of tests/conftest.py."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize(
    "source",
    [
        "import pytest\ndef test_x(): pytest.skip('why')\n",
        "import pytest\n@pytest.mark.skip(reason='why')\ndef test_x(): pass\n",
        "import pytest\n@pytest.mark.xfail(reason='why')\ndef test_x(): assert False\n",
        "import pytest\n@pytest.mark.xfail(reason='why')\ndef test_x(): pass\n",
        "import pytest\npytest.skip('why', allow_module_level=True)\n",
        "import pytest\npytest.importorskip('no_such_module', reason='why')\n",
    ],
)
def test_a_skip_or_an_expected_failure_fails_the_run_and_says_why(source: str, tmp_path: Path) -> None:
    (tmp_path / "test_it.py").write_text(source)
    argv = [sys.executable, "-m", "pytest", "-p", "tests.conftest", "-p", "no:cacheprovider", str(tmp_path)]
    done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode != 0
    assert "why" in done.stdout


def test_a_kernel_test_is_refused_on_this_machines_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("THINPOOL_TEST_KERNEL", raising=False)
    argv = [sys.executable, "-m", "pytest", "tests/kernel/test_guest_kernel.py"]
    done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 4
    assert "make kernel T=tests/kernel/test_guest_kernel.py" in done.stderr
