"""What the driver costs in a cluster: ``python -m tests.cluster.benchmark``.

The time from a claim to its running pod beside that of a pod without one, in the same cluster, one after the other, and
the memory of the driver's processes with a hundred volumes.
"""

import statistics
import sys
import time
from typing import Final

from tests.cluster.cluster import NAMESPACE, Cluster
from tests.cluster.driver import POOL, VALUES, Driver, storage_class
from tests.cluster.manifests import Object, claim, pod
from tests.cluster.pods import Pods, namespace

_ROUNDS: Final = 20
_VOLUMES: Final = 100


def main() -> int:
    """Measure, and print what was found."""
    with Cluster({"node-1": ("8G",), "node-2": ("8G",)}) as cluster:
        cluster.install(VALUES)
        driver = Driver(cluster)
        driver.wait_pool(*cluster.nodes)
        with namespace(cluster, "benchmark") as pods:
            plain, claimed = [], []
            for number in range(_ROUNDS):
                plain.append(_seconds(pods, f"plain-{number}", []))
                name = f"claimed-{number}"
                claimed.append(_seconds(pods, name, [claim(name, "1Gi", POOL)]))
            _show("pod without a volume", plain)
            _show("claim and pod", claimed)
            difference = statistics.median(claimed) - statistics.median(plain)
            print(f"the volume's part of the median: {difference:.2f} s")
            cluster.apply(storage_class("at-once", POOL) | {"volumeBindingMode": "Immediate"})
            names = [f"v{number}" for number in range(_VOLUMES)]
            begun = time.monotonic()
            pods.apply(*(claim(name, "64Mi", "at-once") for name in names))
            pods.bound(*names, limit=300)
            print(f"{_VOLUMES} claims applied together were bound in {time.monotonic() - begun:.1f} s")
            _show_memory(driver)
    return 0


def _seconds(pods: Pods, name: str, objects: list[Object]) -> float:
    mounts = {"/data": name} if objects else None
    begun = time.monotonic()
    pods.apply(*objects, pod(name, mounts=mounts))
    pods.running(name)
    taken = time.monotonic() - begun
    pods.delete(f"pod/{name}")
    return taken


def _show(what: str, seconds: list[float]) -> None:
    middle, low, high = statistics.median(seconds), min(seconds), max(seconds)
    print(f"{what}: median {middle:.2f} s of {len(seconds)}, {low:.2f} to {high:.2f} s", flush=True)


def _show_memory(driver: Driver) -> None:
    # The guard of freezes and the node itself are two processes, which share most of this.
    script = (
        "sh",
        "-c",
        "for p in /proc/[0-9]*; do [ $p = /proc/$$ ] || grep -h -E '^(VmRSS|RssAnon)' $p/status; done",
    )
    for component, container in (("node", "node"), ("controller", "controller")):
        for each in driver.pods(component):
            name = each["metadata"]["name"]
            words = ("exec", f"--namespace={NAMESPACE}", name, "--container", container, "--", *script)
            print(name, " ".join(driver.cluster.kubectl(*words).split()), flush=True)


if __name__ == "__main__":
    sys.exit(main())
