"""The driver in a cluster: installed by its chart, and what its pools and its objects say."""

from collections.abc import Mapping
from typing import Any, Final

from tests.cluster.client import CommandError, until
from tests.cluster.cluster import NAMESPACE, RELEASE, Cluster
from tests.cluster.manifests import Object

POOL: Final = "fast"
"""The pool that most tests use, on the first blank disk of each node; classes have its name."""
XFS: Final = "fast-xfs"
OWN_DISK: Final = "/dev/ubdb"
OTHER_DISK: Final = "/dev/ubdc"
"""The second blank disk of each node, for pools of single tests."""

VALUES: Final[Mapping[str, Any]] = {
    "pools": [{"name": POOL, "spec": {"devices": [OWN_DISK], "overprovisionRatio": 30}}],
    "storageClasses": [
        {"name": POOL, "pool": POOL, "default": True},
        {"name": XFS, "pool": POOL, "fsType": "xfs"},
    ],
    "volumeSnapshotClasses": [{"name": POOL}],
    "volumeGroupSnapshotClasses": [{"name": POOL}],
    "controller": {"extraArgs": ["--orphan-after=4"]},
    # What a change of a pool does to the scheduler is waited for.
    "sidecars": {"provisioner": {"extraArgs": ["--capacity-poll-interval=5s"]}},
}

_POOL_LIMIT: Final = 120.0


class Driver:
    """The driver that is installed in ``cluster``."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster

    # -- pods ---------------------------------------------------------------------------------------------------

    def plugin(self, node: str) -> str:
        """Return the name of the driver's pod on a node. Raise CommandError if none runs there."""
        for pod in self.pods("node"):
            if pod["spec"].get("nodeName") == node and pod["status"]["phase"] == "Running":
                return str(pod["metadata"]["name"])
        raise CommandError(f"the driver does not run on {node}")

    def pods(self, component: str) -> list[Object]:
        """Return the driver's pods: ``node`` or ``controller``."""
        found = self.kubectl_get("pods", f"--selector=app.kubernetes.io/component={component}")
        return list(found["items"])

    def kubectl_get(self, *words: str) -> Any:  # noqa: ANN401 - the API's objects
        """Return objects of the driver's namespace."""
        return self.cluster.get(f"--namespace={NAMESPACE}", *words)

    def leader(self, lease: str = f"{RELEASE}-controller") -> str:
        """Return the pod that holds a lease of the controller's namespace."""
        return str(self.kubectl_get("lease", lease)["spec"]["holderIdentity"])

    def kill(self, pod: str) -> None:
        """Kill a pod of the driver at once; another takes its place."""
        self.cluster.kubectl(
            "delete", "pod", pod, f"--namespace={NAMESPACE}", "--grace-period=0", "--force", again=False
        )

    def wait_ready(self) -> None:
        """Wait until the driver's pods are all ready."""
        for name in (f"daemonset/{RELEASE}-node", f"deployment/{RELEASE}-controller"):
            self.cluster.kubectl("rollout", "status", name, f"--namespace={NAMESPACE}", "--timeout=540s", limit=560)

    # -- pools --------------------------------------------------------------------------------------------------

    def seat(self, node: str, pool: str = POOL) -> Object:
        """Return the ThinPoolNode of a pool on a node."""
        found: Object = self.cluster.get("thinpoolnode", f"{pool}.{node}")
        return found

    def condition(self, node: str, kind: str, pool: str = POOL) -> Object:
        """Return a condition of a pool on a node, {} if it is not told."""
        conditions = self.seat(node, pool).get("status", {}).get("conditions", [])
        return next((each for each in conditions if each["type"] == kind), {})

    def wait_pool(self, *nodes: str, pool: str = POOL) -> None:
        """Wait until the pool can be used on the nodes."""
        for node in nodes:
            self.told(node, "Ready", "", pool)

    def told(self, node: str, kind: str, text: str, pool: str = POOL) -> Object:
        """Wait until a condition is true of a pool on a node and holds ``text``; return it."""

        def found() -> Object:
            condition = self.condition(node, kind, pool)
            said = f"{condition.get('reason')}: {condition.get('message')}"
            assert condition.get("status") == "True", condition
            assert text in said, said
            return condition

        return until(f"{kind} of {pool} on {node} says {text!r}", found, limit=_POOL_LIMIT)

    # -- what the pools hold ------------------------------------------------------------------------------------

    def held(self, *nodes: str) -> dict[str, str]:
        """Return the names of what is in the pools of the nodes (all of them) by handle, what is being deleted too."""
        found: dict[str, str] = {}
        for node in nodes or self.cluster.nodes:
            for command in ("volumes", "snapshots"):
                for line in self.command(node, command).splitlines()[1:]:
                    handle, name, *_ = line.split()
                    found[handle] = name
        return found

    def handles(self) -> set[str]:
        """Return the handles of the volumes and snapshots in the API."""
        volumes = self.cluster.get("persistentvolumes")["items"]
        contents = self.cluster.get("volumesnapshotcontents")["items"]
        named = {each["spec"]["csi"]["volumeHandle"] for each in volumes if "csi" in each["spec"]}
        return named | {each.get("status", {}).get("snapshotHandle", "") for each in contents}

    def settled(self) -> None:
        """Wait until the pools hold exactly what the API holds."""

        def same() -> bool:
            held, named = set(self.held()), self.handles()
            assert held == named, f"only in pools: {held - named}; only in the API: {named - held}"
            return True

        until("the pools hold what the API holds", same, limit=120)

    def command(self, node: str, *words: str) -> str:
        """Run thinpool-csi on a node, as an administrator would."""
        pod = self.plugin(node)
        return self.cluster.kubectl("exec", f"--namespace={NAMESPACE}", pod, "--", "thinpool-csi", *words)

    def controller_command(self, *words: str, again: bool = True) -> str:
        """Run thinpool-csi beside a controller that runs."""
        ready = (each for each in self.pods("controller") if each["status"]["phase"] == "Running")
        pod = next(ready)["metadata"]["name"]
        container = ("--container", "controller", "--", "thinpool-csi", *words)
        return self.cluster.kubectl("exec", f"--namespace={NAMESPACE}", pod, *container, again=again)


def thin_pool(name: str, devices: list[str], **spec: Any) -> Object:  # noqa: ANN401 - the API's objects
    """Return a ThinPool."""
    return {
        "apiVersion": "thinpool-csi.dev/v1alpha1",
        "kind": "ThinPool",
        "metadata": {"name": name},
        "spec": {"devices": devices, **spec},
    }


def storage_class(name: str, pool: str, **parameters: str) -> Object:
    """Return a StorageClass of a pool."""
    return {
        "apiVersion": "storage.k8s.io/v1",
        "kind": "StorageClass",
        "metadata": {"name": name},
        "provisioner": "thinpool-csi.dev",
        "parameters": {"pool": pool, **parameters},
        "volumeBindingMode": "WaitForFirstConsumer",
        "allowVolumeExpansion": True,
    }
