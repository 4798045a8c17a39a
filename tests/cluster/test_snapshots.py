"""Snapshots: restored, larger, and of several volumes at one moment."""

from tests.cluster.client import until
from tests.cluster.cluster import Cluster
from tests.cluster.driver import POOL, Driver
from tests.cluster.manifests import claim, group_snapshot, labelled, pod, snapshot
from tests.cluster.pods import Pods


def test_a_snapshot_is_restored_into_a_larger_claim(driver: Driver, pods: Pods) -> None:
    pods.apply(claim("data", "1Gi", POOL), pod("source", mounts={"/data": "data"}))
    pods.running("source")
    checksum = pods.write("source", "/data/a")
    pods.apply(snapshot("then", "data", POOL))
    pods.snapshot_ready("then")
    assert pods.write("source", "/data/a") != checksum
    pods.apply(
        claim("restored", "3Gi", POOL, source=("VolumeSnapshot", "then")),
        pod("restored", mounts={"/data": "restored"}),
    )
    pods.running("restored")
    assert pods.checksum("restored", "/data/a") == checksum
    assert int(pods.shell("restored", "df -P -m /data | tail -n 1").split()[1]) > 2 << 10
    # The restored volume needs neither the snapshot nor its source.
    pods.delete("pod/source", "pvc/data", "volumesnapshot/then")
    assert pods.checksum("restored", "/data/a") == checksum
    pods.delete("pod/restored", "pvc/restored")
    driver.settled()


def test_a_group_shows_its_volumes_at_one_moment(cluster: Cluster, driver: Driver, pods: Pods) -> None:
    """A program writes a number to three volumes in turn, so at any moment no two differ by more than one."""
    node = cluster.nodes[0]
    names = ["one", "two", "three"]
    counting = (
        "i=0; while true; do i=$((i + 1)); for v in one two three; do"
        " echo $i >/$v/new; sync /$v/new; mv /$v/new /$v/number; sync /$v; done; done"
    )
    pods.apply(*(labelled(claim(name, "1Gi", POOL), {"app": "db"}) for name in names))
    pods.apply(pod("db", mounts={f"/{name}": name for name in names}, script=counting, node=node))
    pods.running("db")
    until("it counts", lambda: int(pods.shell("db", "cat /three/number 2>/dev/null || echo 0")) > 20, limit=60)
    pods.apply(group_snapshot("together", {"app": "db"}, POOL))
    pods.snapshot_ready("together", kind="volumegroupsnapshot")
    members = [each["metadata"]["name"] for each in pods.get("volumesnapshot")["items"]]
    assert len(members) == len(names)
    pods.snapshot_ready(*members)
    copies = {f"copy-{number}": name for number, name in enumerate(members)}
    pods.apply(*(claim(copy, "1Gi", POOL, source=("VolumeSnapshot", name)) for copy, name in copies.items()))
    pods.apply(pod("restored", mounts={f"/{copy}": copy for copy in copies}))
    pods.running("restored")
    numbers = [int(pods.shell("restored", f"cat /{copy}/number")) for copy in copies]
    assert max(numbers) - min(numbers) <= 1, numbers
    assert min(numbers) > 1
    pods.delete("pod", "--all")
    pods.delete("volumegroupsnapshot/together")
    pods.delete("pvc", "--all")
    driver.settled()


def test_a_group_across_nodes_is_refused_by_name(cluster: Cluster, driver: Driver, pods: Pods) -> None:
    for number, node in enumerate(cluster.nodes):
        name = f"v{number}"
        pods.apply(
            labelled(claim(name, "1Gi", POOL), {"app": "far"}),
            pod(name, mounts={"/data": name}, node=node),
        )
        pods.running(name)
    before = driver.held()
    pods.apply(group_snapshot("apart", {"app": "far"}, POOL))

    def said() -> str:
        status = pods.get("volumegroupsnapshot", "apart").get("status", {})
        return str(status.get("error", {}).get("message", ""))

    until("the group is refused by name", lambda: all(node in said() for node in cluster.nodes), limit=60)
    assert driver.held() == before
    pods.delete("volumegroupsnapshot/apart")
