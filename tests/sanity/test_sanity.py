"""csi-sanity against a real node on a real thin pool, for file systems and for raw block volumes."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import grpc
import pytest

from csi.pb.csi.v1 import csi_pb2, csi_pb2_grpc

_TOTAL: Final = 103
"""102 specs, and one that csi-sanity itself holds as pending."""
_RUN: Final = 84
"""What can run without attaching (publish and unpublish at the controller, 10 specs) and without ModifyVolume (8)."""

_SUMMARY: Final = re.compile(r"Ran (\d+) of (\d+) Specs")
_RESULT: Final = re.compile(r"(\d+) Passed \| (\d+) Failed \| (\d+) Pending \| (\d+) Skipped")
_ESCAPES: Final = re.compile(r"\x1b\[[0-9;]*m")

_POOLS: Final = """
pools:
  - name: default
    devices: [/dev/ubda]
    overprovisionRatio: 20
"""


@pytest.fixture(scope="module")
def base() -> Path:
    """Give the node and csi-sanity a directory with a short path: a socket's name may have 107 bytes."""
    path = Path("/tmp/sanity")
    path.mkdir()
    return path


@pytest.fixture(scope="module")
def endpoint(base: Path) -> Iterator[str]:
    """Serve a direct-lvm pool on the guest's first disk until the tests are over."""
    (base / "pools.yaml").write_text(_POOLS)
    (base / "kubelet").mkdir()
    address = f"unix://{base}/csi.sock"
    argv = [
        *(sys.executable, "-m", "csi", "node", "--endpoint", address, "--pools", f"{base}/pools.yaml"),
        *("--node-name", "node-a", "--state-dir", f"{base}/state", "--run-dir", f"{base}/run"),
        *("--kubelet-dir", f"{base}/kubelet", "--log-format", "json"),
    ]
    with (base / "node.log").open("w") as log:
        node = subprocess.Popen(argv, stderr=log)
        try:
            _wait_until_ready(address)
            yield address
        finally:
            node.send_signal(signal.SIGTERM)
            status = node.wait(60)
            said = (base / "node.log").read_text()
    assert status == 0, said[-4000:]
    assert "traceback" not in said.lower(), said[-4000:]


def _wait_until_ready(address: str) -> None:
    with grpc.insecure_channel(address) as channel:
        identity = csi_pb2_grpc.IdentityStub(channel)
        answer = identity.Probe(csi_pb2.ProbeRequest(), timeout=90, wait_for_ready=True)
    assert answer.ready.value


@pytest.mark.timeout(600)
@pytest.mark.parametrize("access", ["mount", "block"])
def test_every_spec_that_the_capabilities_allow_runs_and_passes(endpoint: str, base: Path, access: str) -> None:
    """84 of 102 run; each of the others is named with the capability that it wants."""
    argv = [
        os.environ["CSI_SANITY"],
        f"-csi.endpoint={endpoint}",
        f"-csi.mountdir={base}/kubelet/target",
        f"-csi.stagingdir={base}/kubelet/staging",
        f"-csi.testvolumeaccesstype={access}",
        f"-csi.testvolumesize={64 << 20}",
        f"-csi.testvolumeexpandsize={128 << 20}",
        "-csi.testnodevolumeattachlimit=true",
        "-ginkgo.no-color",
        "-ginkgo.v",
    ]
    done = subprocess.run(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=580, check=False)
    said = _ESCAPES.sub("", done.stdout)
    sys.stdout.write(said)
    summary, result = _SUMMARY.search(said), _RESULT.search(said)
    assert summary, said[-2000:]
    assert result, said[-2000:]
    assert [int(number) for number in result.groups()] == [_RUN, 0, 1, _TOTAL - _RUN - 1], said[-6000:]
    assert (int(summary[1]), int(summary[2])) == (_RUN, _TOTAL)
    assert done.returncode == 0
