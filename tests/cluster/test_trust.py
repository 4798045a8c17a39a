"""What a node's account may do, and that the controller's port on a node answers only the controller."""

import json

import pytest

from tests.cluster.cluster import NAMESPACE, RELEASE, Cluster
from tests.cluster.driver import POOL, Driver

_STATUS = json.dumps({"status": {"address": "10.0.0.1:1", "certificate": "mine"}})


@pytest.fixture(scope="module")
def token(cluster: Cluster, driver: Driver) -> str:
    """The token of the driver's pod on the first node."""
    pod = driver.plugin(cluster.nodes[0])
    bound = ("--bound-object-kind=Pod", f"--bound-object-name={pod}")
    return cluster.kubectl("create", "token", f"{RELEASE}-node", f"--namespace={NAMESPACE}", *bound).strip()


def test_a_node_tells_of_itself(cluster: Cluster, driver: Driver, token: str) -> None:
    own, _ = cluster.nodes
    address = driver.seat(own)["status"]["address"]
    patch = json.dumps({"status": {"address": address}})
    assert "patched" in _as(cluster, token, "patch", *_seat(own), "--subresource=status", f"--patch={patch}")


def test_a_node_cannot_tell_of_another_node(cluster: Cluster, token: str) -> None:
    _, other = cluster.nodes
    said = cluster.refused(f"--token={token}", "patch", *_seat(other), "--subresource=status", f"--patch={_STATUS}")
    assert "a node writes only of itself" in said


def test_a_token_of_no_node_tells_of_none(cluster: Cluster) -> None:
    unbound = cluster.kubectl("create", "token", f"{RELEASE}-node", f"--namespace={NAMESPACE}").strip()
    said = cluster.refused(
        f"--token={unbound}", "patch", *_seat(cluster.nodes[0]), "--subresource=status", f"--patch={_STATUS}"
    )
    assert "the token says no node" in said


def test_a_node_cannot_change_what_is_wanted_or_declare_a_pool_lost(cluster: Cluster, token: str) -> None:
    own, other = cluster.nodes
    for words in (
        ("patch", *_seat(own), '--patch={"spec":{"lost":true}}'),
        ("patch", *_seat(other), '--patch={"spec":{"lost":true}}'),
        ("delete", "thinpoolnode", f"{POOL}.{own}"),
        ("patch", "thinpool", POOL, "--type=merge", '--patch={"spec":{"force":true}}'),
    ):
        assert "forbidden" in cluster.refused(f"--token={token}", *words).lower()


def test_a_node_cannot_pass_for_a_controller(cluster: Cluster, token: str) -> None:
    certificates = ("configmap", f"{RELEASE}-controllers", f"--namespace={NAMESPACE}")
    assert "BEGIN CERTIFICATE" in _as(cluster, token, "get", *certificates, "--output=yaml")
    said = cluster.refused(f"--token={token}", "patch", *certificates, '--patch={"data":{"mine":"x"}}')
    assert "forbidden" in said.lower()


def test_a_node_reads_neither_secrets_nor_volumes(cluster: Cluster, token: str) -> None:
    for what in ("secrets", "persistentvolumes", "persistentvolumeclaims", "pods", "nodes", "configmaps"):
        said = cluster.refused(f"--token={token}", "get", what, "--namespace=kube-system")
        assert "forbidden" in said.lower(), what


def test_the_controllers_account_cannot_declare_a_pool_lost(cluster: Cluster) -> None:
    account = f"--as=system:serviceaccount:{NAMESPACE}:{RELEASE}-controller"
    said = cluster.refused(account, "patch", *_seat(cluster.nodes[0]), '--patch={"spec":{"lost":true}}')
    assert "only a person declares a pool lost" in said


def test_without_a_certificate_a_node_answers_nobody(cluster: Cluster, driver: Driver) -> None:
    """Neither without one nor with one that the caller has made."""
    own, other = cluster.nodes
    address = driver.seat(other)["status"]["address"]
    key, certificate = "/run/self-made.key", "/run/self-made.crt"
    cluster.run(
        own,
        *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "1"),
        *("-subj", "/CN=thinpool-csi-controller", "-keyout", key, "-out", certificate),
    )
    for words in ("", f"-key {key} -cert {certificate}"):
        # TLS 1.3 tells a client that its certificate was refused when it next reads.
        script = f"sleep 3 | openssl s_client -connect {address} -alpn h2 -tls1_3 -ign_eof {words} 2>&1; true"
        assert "alert" in cluster.run(own, "sh", "-c", script, limit=30)


def _seat(node: str) -> tuple[str, str, str]:
    return "thinpoolnode", f"{POOL}.{node}", "--type=merge"


def _as(cluster: Cluster, token: str, *words: str) -> str:
    return cluster.kubectl(f"--token={token}", *words)
