"""What a node's account may do, and that the controller's port on a node answers only the controller."""

import json

import pytest

from csi.rpc.trust import CONTROLLER, NODE, Own
from tests.cluster.client import until
from tests.cluster.cluster import NAMESPACE, RELEASE, Cluster
from tests.cluster.driver import POOL, Driver

_FORGED = {"status": {"address": "10.0.0.1:1", "certificate": "mine"}}


@pytest.fixture(scope="module")
def token(cluster: Cluster, driver: Driver) -> str:
    """The token of the driver's pod on the first node."""
    pod = driver.plugin(cluster.nodes[0])
    bound = ("--bound-object-kind=Pod", f"--bound-object-name={pod}")
    return cluster.kubectl("create", "token", f"{RELEASE}-node", f"--namespace={NAMESPACE}", *bound).strip()


def test_a_node_tells_of_itself(cluster: Cluster, driver: Driver, token: str) -> None:
    own, _ = cluster.nodes
    body = {"status": {"address": driver.seat(own)["status"]["address"]}}
    assert cluster.patch(_status(own), body, token)["kind"] == "ThinPoolNode"


def test_a_node_cannot_tell_of_another_node(cluster: Cluster, token: str) -> None:
    _, other = cluster.nodes
    said = cluster.patch(_status(other), _FORGED, token)
    assert (said["kind"], said["status"]) == ("Status", "Failure")
    assert "a node writes only of itself" in said["message"]


def test_a_token_of_no_node_tells_of_none(cluster: Cluster) -> None:
    unbound = cluster.kubectl("create", "token", f"{RELEASE}-node", f"--namespace={NAMESPACE}").strip()
    said = cluster.patch(_status(cluster.nodes[0]), _FORGED, unbound)
    assert (said["kind"], said["status"]) == ("Status", "Failure")
    assert "the token says no node" in said["message"]


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


def test_a_node_answers_only_those_whose_certificate_is_published(cluster: Cluster, driver: Driver) -> None:
    """Not one without, not one that made its own, not another node; and one that was taken back no more."""
    status = driver.seat(cluster.nodes[1])["status"]

    def knock(own: Own | None) -> str:
        return cluster.probe(status["address"], status["certificate"], own)

    mine = Own(CONTROLLER)
    for stranger in (None, mine, Own(NODE)):
        assert knock(stranger) == "UNAVAILABLE"
    entry = ("patch", "configmap", f"{RELEASE}-controllers", f"--namespace={NAMESPACE}")
    # The name of a pod that runs: others are forgotten as those of controllers that are gone.
    name = driver.plugin(cluster.nodes[0])
    cluster.kubectl(*entry, "--patch", json.dumps({"data": {name: mine.published()}}))
    until("it is let in", lambda: knock(mine) == "OK", limit=60)
    cluster.kubectl(*entry, "--patch", json.dumps({"data": {name: None}}))
    until("it is let in no more", lambda: knock(mine) == "UNAVAILABLE", limit=60)


def _status(node: str) -> str:
    return f"/apis/thinpool-csi.dev/v1alpha1/thinpoolnodes/{POOL}.{node}/status"


def _seat(node: str) -> tuple[str, str, str]:
    return "thinpoolnode", f"{POOL}.{node}", "--type=merge"


def _as(cluster: Cluster, token: str, *words: str) -> str:
    return cluster.kubectl(f"--token={token}", *words)
