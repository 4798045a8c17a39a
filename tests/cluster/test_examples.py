"""The examples of deploy/, as a user applies them, and its manifests."""

import os
from typing import Final

import pytest
import yaml

from tests.cluster.client import until
from tests.cluster.cluster import Cluster
from tests.cluster.driver import Driver
from tests.cluster.pods import Pods
from tests.guest.machine import ROOT

_DEPLOY: Final = os.path.join(ROOT, "deploy")
_EXAMPLES: Final = os.path.join(_DEPLOY, "examples")


def test_the_examples_do_what_they_say(driver: Driver, pods: Pods) -> None:
    """All of them in one namespace, as somebody who tries them would."""
    for name in ("pvc-ext4", "pvc-xfs", "block", "group-snapshot", "statefulset", "ephemeral"):
        _apply(pods, f"{name}.yaml")
    pods.running("ext4", "xfs", "block", "group", "ephemeral", "inline", limit=240)
    for name in ("ext4", "xfs", "ephemeral", "inline"):
        _holds(pods, name, "first\n")
        assert _mounted(pods, name) == ("xfs" if name == "xfs" else "ext4")
        assert pods.node_of(name)
    until("the device holds the line", lambda: pods.shell("block", "head -n 1 /dev/data") == "first\n", limit=60)
    _apply(pods, "snapshot.yaml")
    pods.snapshot_ready("ext4-then")
    pods.shell("ext4", "echo later >>/data/note", again=False)
    _apply(pods, "restore-larger.yaml")
    _apply(pods, "clone.yaml")
    pods.running("restored", "clone")
    _holds(pods, "restored", "first\nrestored\n")
    assert int(pods.shell("restored", "df -P -m /data | tail -n 1").split()[1]) > 2 << 10
    assert pods.shell("ext4", "cat /data/note") == "first\nlater\n"
    _holds(pods, "clone", "first\ncloned\n")
    assert pods.node_of("clone") == pods.node_of("xfs")
    assert pods.shell("xfs", "cat /data/note") == "first\n"
    pods.snapshot_ready("group-then", kind="volumegroupsnapshot")
    pods.kubectl("rollout", "status", "statefulset/stateful", "--timeout=540s", limit=600)
    for number in range(3):
        _holds(pods, f"stateful-{number}", f"stateful-{number}\n")
    pods.delete("statefulset,pod", "--all")
    # The StatefulSet takes its claims along, and so does the generic ephemeral volume.
    for kind in ("volumegroupsnapshot", "volumesnapshot", "pvc"):
        pods.delete(kind, "--all")
    driver.settled()


@pytest.mark.usefixtures("driver")
def test_the_api_takes_every_example(pods: Pods) -> None:
    """The pool and the classes too, which are there already under these names."""
    names = sorted(os.listdir(_EXAMPLES))
    assert {"pool.yaml", "classes.yaml"} < set(names)
    for name in names:
        _taken(pods, os.path.join("examples", name))


@pytest.mark.usefixtures("driver")
@pytest.mark.parametrize("name", ["crds.yaml", "thinpool-csi.yaml"])
def test_the_api_takes_the_manifests(cluster: Cluster, name: str) -> None:
    _taken(cluster, name)


def _apply(pods: Pods, name: str) -> None:
    with open(os.path.join(_EXAMPLES, name)) as file:
        pods.apply(*yaml.safe_load_all(file))


def _taken(client: Pods | Cluster, name: str) -> None:
    """See that the API would take all objects of a file of deploy/."""
    path = os.path.join(_DEPLOY, name)
    with open(path) as file:
        objects = [each for each in yaml.safe_load_all(file) if each]
    said = client.kubectl("apply", "--dry-run=server", "-f", path).splitlines()
    assert len(said) == len(objects), said
    assert all(line.endswith("(server dry run)") for line in said), said


def _holds(pods: Pods, name: str, note: str) -> None:
    """Wait until the pod has written its note beside what was there: it is ready a moment before."""

    def same() -> bool:
        found = pods.shell(name, "cat /data/note")
        assert found == note, found
        return True

    until(f"the note of {name} says {note!r}", same, limit=60)


def _mounted(pods: Pods, name: str) -> str:
    """Return the kind of the file system at /data."""
    mounts = (line.split() for line in pods.shell(name, "cat /proc/mounts").splitlines())
    return next(kind for _, place, kind, *_ in mounts if place == "/data")
