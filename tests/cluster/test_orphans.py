"""Volumes that nothing in the cluster names any more: told of, left alone, removed on a person's word."""

import json

from tests.cluster.client import CommandError, until
from tests.cluster.cluster import NAMESPACE, RELEASE, Cluster
from tests.cluster.driver import POOL, Driver
from tests.cluster.manifests import claim, pod, snapshot
from tests.cluster.pods import Pods

_KEEP = json.dumps({"spec": {"persistentVolumeReclaimPolicy": "Retain"}})


def test_a_volume_without_an_object_is_told_of_and_removed_when_a_person_says_so(
    cluster: Cluster, driver: Driver, pods: Pods
) -> None:
    pods.apply(claim("data", "1Gi", POOL), pod("user", mounts={"/data": "data"}), claim("kept", "1Gi", POOL))
    pods.running("user")
    node = pods.node_of("user")
    volume = pods.get("pvc", "data")["spec"]["volumeName"]
    handle = cluster.get("persistentvolume", volume)["spec"]["csi"]["volumeHandle"]
    pods.apply(snapshot("named", "data", POOL))
    pods.snapshot_ready("named")
    cluster.kubectl("patch", "persistentvolume", volume, "--patch", _KEEP)
    pods.delete("pod/user", "pvc/data")
    cluster.kubectl("delete", "persistentvolume", volume)

    def told() -> bool:
        orphans = driver.seat(node)["status"].get("orphans") or []
        return [(each["handle"], each["kind"]) for each in orphans] == [(handle, "Volume")]

    until("the orphan is told of, and nothing else", told, limit=60)
    until("an event names it", lambda: any(handle in each for each in _events(cluster, node)), limit=60)
    listed = driver.controller_command("orphans").splitlines()
    assert [line.split()[:4] for line in listed[1:]] == [[handle, "Volume", POOL, node]]
    # What somebody still names is nobody's to remove here.
    named = next(iter(driver.handles() - {""}))
    try:
        driver.controller_command("orphans", f"--remove={named}", again=False)
    except CommandError as error:
        assert "not told of as an orphan" in str(error)  # noqa: PT017 - what it says is what is tested
    else:
        raise AssertionError("a snapshot that is named was removed")
    assert handle in driver.held(node)

    assert driver.controller_command("orphans", f"--remove={handle}", again=False) == f"removed {handle}\n"
    driver.settled()
    until("nothing is told of any more", lambda: not driver.seat(node)["status"]["orphans"], limit=60)


def test_certificates_of_controllers_that_are_gone_are_forgotten(cluster: Cluster, driver: Driver) -> None:
    gone = driver.leader()
    driver.kill(gone)

    def entries() -> set[str]:
        return set(cluster.get("configmap", f"{RELEASE}-controllers", f"--namespace={NAMESPACE}")["data"])

    def only_those_that_run() -> bool:
        running = {each["metadata"]["name"] for each in driver.pods("controller")}
        return len(running) == 2 and gone not in running and entries() == running

    until("only those that run are listed", only_those_that_run, limit=120)
    driver.wait_ready()


def _events(cluster: Cluster, node: str) -> list[str]:
    """Return what events say of orphans on a node, in no order: those of earlier tests are among them."""
    found = cluster.get("events", f"--field-selector=involvedObject.name={POOL}.{node},reason=OrphansFound")
    return [each["message"] for each in found["items"]]
