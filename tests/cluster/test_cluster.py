"""The cluster itself, before any driver: nodes, pods, network, disks, power cuts."""

from tests.cluster import network
from tests.cluster.client import until
from tests.cluster.cluster import Cluster
from tests.cluster.manifests import pod
from tests.cluster.pods import Pods

_SCRATCH = {"name": "scratch", "emptyDir": {}}


def test_a_pod_runs_on_each_node_keeps_data_and_reaches_the_api_by_its_service_address(
    cluster: Cluster, pods: Pods
) -> None:
    pods.apply(*(pod(name, node=name, mounts={"/scratch": "scratch"}, volumes=[_SCRATCH]) for name in cluster.nodes))
    for name in cluster.nodes:
        pods.running(name)
        assert pods.write(name, "/scratch/data") == pods.checksum(name, "/scratch/data")
        assert pods.node_of(name) == name
        assert pods.shell(name, "echo $KUBERNETES_SERVICE_HOST").strip() == network.API
        pods.shell(name, "nc -w 10 $KUBERNETES_SERVICE_HOST $KUBERNETES_SERVICE_PORT -e true")


def test_pods_reach_pods_and_addresses_of_another_node(cluster: Cluster, pods: Pods) -> None:
    here, there = cluster.nodes
    pods.apply(pod("here", node=here), pod("there", node=there, script="echo hello | nc -l -p 5000; sleep 1000"))
    pods.running("here", "there")
    address = pods.get("pod", "there")["status"]["podIP"]
    ask = f"nc -w 10 {address} 5000"
    until("it answers", lambda: pods.shell("here", ask, again=False) == "hello\n", limit=60)
    # The other node's kubelet.
    pods.shell("here", f"nc -w 10 {cluster.address(there)} 10250 -e true")


def test_a_command_runs_on_the_node_itself_and_has_a_device_mapper_there(cluster: Cluster) -> None:
    for name in cluster.nodes:
        assert cluster.run(name, "hostname") == f"{name}\n"
        assert "thin-pool" in cluster.run(name, "dmsetup", "targets")


def test_a_disk_is_added_to_a_node_that_runs(cluster: Cluster) -> None:
    name = cluster.nodes[0]
    device = cluster.add_disk(name, "1G")
    assert cluster.run(name, "blockdev", "--getsize64", device) == f"{1 << 30}\n"
    assert device in cluster.disks(name)


def test_a_node_whose_power_was_cut_boots_again_and_runs_its_pods(cluster: Cluster, pods: Pods) -> None:
    name = cluster.nodes[1]
    pods.apply(pod("stays", node=name))
    pods.running("stays")
    cluster.kill_node(name)
    cluster.wait(f"node/{name}", "condition=Ready=Unknown")
    cluster.boot_node(name)
    pods.running("stays")
    assert pods.shell("stays", "hostname") == "stays\n"
