"""What Helm does to a driver that is in use: upgrades, removal, a new installation."""

from typing import Any

from tests.cluster.client import until
from tests.cluster.cluster import NAMESPACE, RELEASE, Cluster
from tests.cluster.driver import POOL, VALUES, Driver
from tests.cluster.manifests import claim, pod
from tests.cluster.pods import Pods


def test_an_upgrade_and_a_removal_and_a_new_installation_leave_the_data_alone(
    cluster: Cluster, driver: Driver, pods: Pods
) -> None:
    node = cluster.nodes[0]
    pods.apply(claim("data", "1Gi", POOL), pod("user", mounts={"/data": "data"}, node=node))
    pods.running("user")
    checksum = pods.write("user", "/data/a")
    ids = {name: driver.seat(name)["status"]["poolID"] for name in cluster.nodes}

    cluster.install(_changed())
    until(
        "the changed spec is carried out",
        lambda: all(driver.seat(name)["status"]["overprovisionRatio"] == "40" for name in cluster.nodes),
        limit=60,
    )
    assert pods.checksum("user", "/data/a") == checksum
    cluster.helm("test", RELEASE, f"--namespace={NAMESPACE}", "--timeout=3m")

    cluster.helm("uninstall", RELEASE, f"--namespace={NAMESPACE}", "--wait", "--timeout=9m")
    until("the driver's pods are gone", lambda: not driver.pods("node") + driver.pods("controller"), limit=90)
    assert pods.checksum("user", "/data/a") == checksum
    assert pods.write("user", "/data/b") == pods.checksum("user", "/data/b")
    assert len(cluster.get("thinpools")["items"]) == 1

    cluster.install(VALUES)
    driver.wait_pool(*cluster.nodes)
    assert {name: driver.seat(name)["status"]["poolID"] for name in cluster.nodes} == ids
    pods.delete("pod/user")
    pods.apply(pod("again", mounts={"/data": "data"}))
    pods.running("again")
    assert pods.checksum("again", "/data/a") == checksum
    pods.delete("pod/again", "pvc/data")
    driver.settled()


def _changed() -> dict[str, Any]:
    (pool,) = VALUES["pools"]
    return {
        **VALUES,
        "pools": [pool | {"spec": pool["spec"] | {"overprovisionRatio": 40}}],
        "node": {"logLevel": "debug"},
        "controller": {**VALUES["controller"], "replicas": 1},
    }
