"""A namespace for one test, its pods and claims, and what tests ask of them."""

import contextlib
from collections.abc import Iterator
from typing import Any, Final

from tests.cluster.client import until
from tests.cluster.cluster import Cluster
from tests.cluster.manifests import Object

_RUN_LIMIT: Final = 120.0
_BIND_LIMIT: Final = 120.0


class Pods:
    """What is in one namespace of the cluster."""

    def __init__(self, cluster: Cluster, namespace: str) -> None:
        self.cluster = cluster
        self.namespace = namespace

    def kubectl(self, *words: str, limit: float = 60.0, again: bool = True) -> str:
        """Run kubectl in the namespace."""
        return self.cluster.kubectl(f"--namespace={self.namespace}", *words, limit=limit, again=again)

    def apply(self, *objects: Object) -> None:
        """Apply objects, all to this namespace."""
        self.cluster.apply(*(thing | {"metadata": thing["metadata"] | self._here} for thing in objects))

    def get(self, *words: str) -> Any:  # noqa: ANN401 - the API's objects
        """Return an object, or a List of them, as it is in the API."""
        return self.cluster.get(f"--namespace={self.namespace}", *words)

    def running(self, *pods: str, limit: float = _RUN_LIMIT) -> None:
        """Wait until the pods are ready."""
        for pod in pods:
            self.cluster.wait(f"pod/{pod}", "condition=Ready", f"--namespace={self.namespace}", limit=limit)

    def bound(self, *claims: str, limit: float = _BIND_LIMIT) -> None:
        """Wait until the claims are bound."""
        for claim in claims:
            wanted = "jsonpath={.status.phase}=Bound"
            self.cluster.wait(f"pvc/{claim}", wanted, f"--namespace={self.namespace}", limit=limit)

    def snapshot_ready(self, *names: str, kind: str = "volumesnapshot", limit: float = _BIND_LIMIT) -> None:
        """Wait until the snapshots can be used."""
        for name in names:
            wanted = "jsonpath={.status.readyToUse}=true"
            self.cluster.wait(f"{kind}/{name}", wanted, f"--namespace={self.namespace}", limit=limit)

    def delete(self, *words: str, limit: float = 360.0) -> None:
        """Delete objects (``pod/a``) and wait until they are gone."""
        self.kubectl("delete", *words, f"--timeout={limit:.0f}s", limit=limit + 60, again=False)

    def node_of(self, pod: str) -> str:
        """Return the node that the pod is on, "" if none was chosen yet."""
        return str(self.get("pod", pod)["spec"].get("nodeName", ""))

    def events(self, name: str) -> list[str]:
        """Return what is told of an object: ``Reason: message``, the oldest first."""
        found = self.get("events", f"--field-selector=involvedObject.name={name}", "--sort-by=.lastTimestamp")
        return [f"{event['reason']}: {event['message']}" for event in found["items"]]

    def event(self, name: str, text: str, *, limit: float = 60.0) -> str:
        """Wait for an event of the object that holds ``text``, and return it."""
        return until(
            f"an event of {name} says {text!r}",
            lambda: next((event for event in self.events(name) if text in event), ""),
            limit=limit,
        )

    def shell(self, pod: str, script: str, *, limit: float = 60.0, again: bool = True) -> str:
        """Run a script in the pod and return what it wrote. Raise CommandError if it fails."""
        return self.kubectl("exec", pod, "--", "sh", "-ec", script, limit=limit, again=again)

    def write(self, pod: str, path: str, mib: int = 8) -> str:
        """Write so much random data to a file or a device in the pod, durably, and return its checksum."""
        self.shell(pod, f"dd if=/dev/urandom of={path} bs=1M count={mib} conv=notrunc,fsync 2>/dev/null")
        return self.checksum(pod, path, mib)

    def checksum(self, pod: str, path: str, mib: int = 8) -> str:
        """Return the checksum of the first ``mib`` MiB of a file or a device in the pod."""
        return self.shell(pod, f"dd if={path} bs=1M count={mib} 2>/dev/null | sha256sum").split()[0]

    @property
    def _here(self) -> dict[str, str]:
        return {"namespace": self.namespace}


@contextlib.contextmanager
def namespace(cluster: Cluster, name: str) -> Iterator[Pods]:
    """Make a namespace, and remove it with all that is in it."""
    cluster.kubectl("create", "namespace", name, again=False)
    made = Pods(cluster, name)
    # A pod needs the account, which a controller makes.
    until("the namespace's account is there", lambda: made.get("serviceaccount", "default"), limit=30)
    yield made
    cluster.kubectl("delete", "namespace", name, "--timeout=540s", limit=600, again=False)
