"""What a node of a cluster does not load: it is on every machine, and what is loaded stays."""

import json
import subprocess
import sys

import pytest

_SERVING = """
import json, sys
import csi.__main__, csi.cli.node, csi.cli.member, csi.rpc.server, csi.rpc.registration, csi.agent.http
print(json.dumps(sorted(sys.modules)))
"""
_WHOLE = """
import csi.kube.api
from kubernetes import client, config
print(client.CoordinationV1Api.__name__, config.load_kube_config.__name__, client.Configuration.__name__)
"""


@pytest.fixture(scope="module")
def loaded() -> set[str]:
    return set(json.loads(python(_SERVING)))


def python(program: str) -> str:
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True, timeout=60)
    return done.stdout


@pytest.mark.parametrize(
    "module",
    [
        "configparser",
        "cryptography",
        "dateutil",
        "kubernetes.client.api_client",
        "kubernetes.config.kube_config",
        "kubernetes.watch",
        "oauthlib",
        "pydantic",
        "requests",
        "yaml",
    ],
)
def test_a_node_that_serves_has_not_loaded(module: str, loaded: set[str]) -> None:
    assert "kubernetes.client.rest" in loaded
    assert module not in loaded


def test_whoever_asks_for_more_of_kubernetes_gets_all_of_it() -> None:
    assert python(_WHOLE).split() == ["CoordinationV1Api", "load_kube_config", "Configuration"]
