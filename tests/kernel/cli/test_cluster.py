"""A node of a cluster: it serves what ThinPools want of it, tells how that is, and lets only the controllers in."""

import json
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from csi.pb.csi.v1 import csi_pb2 as pb
from csi.pb.csi.v1 import csi_pb2_grpc
from csi.rpc import trust
from csi.rpc.trust import CONTROLLER, Own
from csi.units import GIB, MIB
from tests.kernel.cli.conftest import Host, wait_for
from tests.kernel.volumes.served import loop_disk
from tests.unit.kube.fake import FakeApi

GROUP = "/apis/thinpool-csi.dev/v1alpha1"
MINE = f"{GROUP}/thinpoolnodes/fast.node-a"
EVENTS = "/apis/events.k8s.io/v1/namespaces/default/events"
LISTEN = "127.0.0.1:9811"


class Cluster:
    """The API, and a node that follows it."""

    def __init__(self, host: Host, disk: str) -> None:
        self.host = host
        self.api = FakeApi()
        self.controller = Own(CONTROLLER)
        self.process: subprocess.Popen[bytes]
        self.api.objects[f"{GROUP}/thinpools/fast"] = {
            "metadata": {"name": "fast", "generation": 1},
            "spec": {"devices": [disk], "removalPolicy": "delete"},
        }
        self.api.objects[MINE] = {
            "apiVersion": "thinpool-csi.dev/v1alpha1",
            "kind": "ThinPoolNode",
            "metadata": {"name": "fast.node-a", "uid": "u1"},
            "spec": {"poolName": "fast", "nodeName": "node-a"},
        }
        self.api.objects["/api/v1/namespaces/storage/configmaps/controllers"] = {
            "metadata": {"name": "controllers"},
            "data": {"controller-0": self.controller.published()},
        }
        config = host.base / "kubeconfig"
        config.write_text(
            json.dumps(
                {
                    "clusters": [
                        {"name": "c", "cluster": {"server": f"http://127.0.0.1:{self.api.server.server_port}"}}
                    ],
                    "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
                    "users": [{"name": "u", "user": {}}],
                    "current-context": "c",
                }
            )
        )

    def start(self, *more: str) -> None:
        """Begin to start the node, with ``more`` arguments."""
        place = [each for each in self.host._place() if each not in {"--pools", f"{self.host.base}/pools.yaml"}]
        argv = [
            *("--endpoint", f"unix://{self.host.socket}", *place, "--cluster", "--listen", LISTEN),
            *("--namespace", "storage", "--controllers-config", "controllers", "--node-name", "node-a"),
            *("--kubeconfig", f"{self.host.base}/kubeconfig", "--metrics", "127.0.0.1:9810", *more),
        ]
        self.process = self.host.start_with(argv)

    @property
    def status(self) -> dict[str, Any]:
        found = self.api.objects[MINE].get("status", {})
        assert isinstance(found, dict)
        return found

    def events(self) -> list[str]:
        """Return the reasons of the events, of which each follows the status that it is about."""
        return [event["reason"] for key, event in list(self.api.objects.items()) if key.startswith(EVENTS)]

    def ready(self) -> bool:
        return any(each["type"] == "Ready" and each["status"] == "True" for each in self.status.get("conditions", []))

    def changes(self, **metadata: object) -> None:
        """Let the node see the ThinPoolNode with other metadata."""
        changed = self.api.objects[MINE]
        changed["metadata"] = {**changed["metadata"], **metadata, "resourceVersion": "8"}
        # Whichever of the three watches it is that takes it.
        for _ in range(3):
            self.api.watches.put([{"type": "ERROR", "object": {"code": 410, "message": "list again"}}])


@pytest.fixture
def cluster(host: Host, tmp_path: Path) -> Iterator[Cluster]:
    with loop_disk(tmp_path / "disk", GIB) as disk:
        made = Cluster(host, disk)
        made.start()
        yield made
        sys.stdout.write(host.log)
        made.api.server.shutdown()
        for _ in range(3):
            made.api.watches.put([])
        host.end(made.process)
        made.api.server.server_close()
        subprocess.run(["thinpool-csi", "deactivate", *pools_file(host, disk)], check=False, timeout=60)


def pools_file(host: Host, disk: str) -> list[str]:
    file = host.base / "fast.yaml"
    file.write_text(f"pools: [{{name: fast, devices: [{disk}]}}]\n")
    place = host._place()
    return ["--node-name", "node-a", "--pools", str(file), *place[2:]]


def test_a_node_serves_what_the_cluster_wants_and_goes_when_it_is_not_wanted(cluster: Cluster) -> None:
    wait_for(cluster.ready, 90)
    status = cluster.status
    assert status["observedGeneration"] == 1
    assert status["address"] == LISTEN
    assert status["data"]["total"] > 800 * MIB
    wait_for(lambda: cluster.events() == ["PoolReady"], 60)

    with trust.channel(LISTEN, Own(CONTROLLER), status["certificate"]) as stranger:
        with pytest.raises(grpc.RpcError) as refused:
            csi_pb2_grpc.ControllerStub(stranger).ListVolumes(pb.ListVolumesRequest(), timeout=10)
        assert refused.value.code() is grpc.StatusCode.UNAVAILABLE
    with trust.channel(LISTEN, cluster.controller, status["certificate"]) as channel:
        stub = csi_pb2_grpc.ControllerStub(channel)
        made = stub.CreateVolume(
            pb.CreateVolumeRequest(
                name="v",
                capacity_range=pb.CapacityRange(required_bytes=64 * MIB),
                volume_capabilities=[
                    pb.VolumeCapability(
                        mount=pb.VolumeCapability.MountVolume(),
                        access_mode=pb.VolumeCapability.AccessMode(
                            mode=pb.VolumeCapability.AccessMode.SINGLE_NODE_WRITER
                        ),
                    )
                ],
                parameters={"pool": "fast"},
            ),
            timeout=30,
        ).volume
        assert made.volume_id.startswith(status["poolID"])
        with urllib.request.urlopen("http://127.0.0.1:9810/metrics", timeout=10) as answer:
            metrics = answer.read().decode()
        assert 'thinpool_csi_pool_volumes{pool="fast"} 1.0' in metrics
        assert 'code="OK",method="Controller.CreateVolume"} 1.0' in metrics

        # It leaves, and is removed from its disks: not as long as there is a volume.
        cluster.changes(deletionTimestamp="2026-01-01T00:00:00Z")
        wait_for(lambda: not cluster.api.watches.qsize(), 60)
        assert len(stub.ListVolumes(pb.ListVolumesRequest(), timeout=30).entries) == 1
        stub.DeleteVolume(pb.DeleteVolumeRequest(volume_id=made.volume_id), timeout=30)
    wait_for(lambda: cluster.status["conditions"][0]["reason"] == "Removed", 90)
    assert cluster.status["poolID"] == ""
    names = subprocess.run(["dmsetup", "ls"], check=True, capture_output=True, text=True, timeout=30).stdout
    assert "thinpool" not in names


def test_a_node_that_starts_while_the_cluster_is_away_serves_what_was_wanted_last(cluster: Cluster) -> None:
    wait_for(cluster.ready, 90)
    pool_id = cluster.status["poolID"]
    cluster.host.end(cluster.process, signal.SIGKILL)
    cluster.api.down = True
    cluster.start()
    wait_for(lambda: '"event": "pool open"' in cluster.host.log, 90)
    assert pool_id in cluster.host.log
    assert "what it wanted last is served" in cluster.host.log
    (pool,) = cluster.host.json("info")["pools"]
    assert (pool["pool"], pool["pool_id"]) == ("fast", pool_id)
    # Back again, the cluster is told, and what it wants by now holds.
    cluster.api.objects[MINE]["status"] = {"poolID": pool_id}
    cluster.api.down = False
    wait_for(cluster.ready, 90)
    assert cluster.status["poolID"] == pool_id
