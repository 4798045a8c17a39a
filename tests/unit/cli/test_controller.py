"""How `thinpool-csi controller` ends when it cannot begin."""

import os
import subprocess
import sys
from pathlib import Path

from tests.unit.cli.conftest import write_kubeconfig
from tests.unit.kube.fake import FakeApi


def test_a_cluster_that_takes_no_certificate_is_one_clear_line_and_status_1(fake_api: FakeApi, tmp_path: Path) -> None:
    fake_api.answers = [(503, {"message": "come again"})] * 10
    done = subprocess.run(
        [
            *(sys.executable, "-m", "csi", "controller", "--log-level=error"),
            *(f"--kubeconfig={write_kubeconfig(tmp_path, fake_api)}", f"--endpoint=unix://{tmp_path}/csi.sock"),
            *("--metrics=127.0.0.1:0", "--namespace=ours", "--controllers-config=controllers", "--lease=lead"),
        ],
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
        env=dict(os.environ) | {"PYTHONPATH": os.getcwd()},
    )
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith("thinpool-csi: patch configmaps/controllers: HTTP 503: come again")
