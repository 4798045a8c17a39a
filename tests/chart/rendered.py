"""What the chart makes of values."""

import functools
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import pytest
import yaml

from tests.tools.chart import CHART, NAME, SNAPSHOT_APIS, ChartError, Object, helm

MONITORING_APIS: Final = ("monitoring.coreos.com/v1/PodMonitor", "monitoring.coreos.com/v1/PrometheusRule")
NODE: Final = f"{NAME}-node"
CONTROLLER: Final = f"{NAME}-controller"
SIDECARS: Final = ("provisioner", "resizer", "snapshotter")
NAMESPACED: Final = frozenset(
    {
        *("ConfigMap", "DaemonSet", "Deployment", "NetworkPolicy", "Pod", "PodDisruptionBudget", "PodMonitor"),
        *("PrometheusRule", "Role", "RoleBinding", "ServiceAccount"),
    }
)


@dataclass(frozen=True)
class Render:
    """A render: its text, and the objects that it says."""

    text: str
    objects: tuple[Object, ...]

    def all(self, kind: str) -> list[Object]:
        """Return the objects of a kind."""
        return [each for each in self.objects if each["kind"] == kind]

    def one(self, kind: str, name: str = "") -> Object:
        """Return the only object of a kind, or the one of that name."""
        (found,) = [each for each in self.all(kind) if name in ("", each["metadata"]["name"])]
        return found

    @property
    def workloads(self) -> list[Object]:
        """The DaemonSet and the Deployment."""
        return [self.one("DaemonSet"), self.one("Deployment")]

    @property
    def node(self) -> Object:
        """The specification of the nodes' pods."""
        return dict(self.one("DaemonSet")["spec"]["template"]["spec"])

    @property
    def controller(self) -> Object:
        """That of the controllers' pods."""
        return dict(self.one("Deployment")["spec"]["template"]["spec"])

    @property
    def test(self) -> Object:
        """That of the pod of ``helm test``."""
        return dict(self.one("Pod")["spec"])

    @property
    def containers(self) -> dict[str, Object]:
        """All containers by name."""
        pods = (self.node, self.controller, self.test)
        return {each["name"]: each for pod in pods for each in pod["containers"]}

    def each(self, field: str) -> dict[str, Any]:
        """Return a field of all containers."""
        return {name: container[field] for name, container in self.containers.items()}

    def args(self, container: str) -> list[str]:
        """Return the arguments of a container, [] if there is none of that name."""
        return list(self.containers.get(container, {}).get("args", []))

    def classes(self, kind: str) -> list[Object]:
        """Return the classes of a kind without what all objects have."""
        return [
            {key: value for key, value in each.items() if key not in ("apiVersion", "kind", "metadata")}
            | {"name": each["metadata"]["name"], **each["metadata"].get("annotations", {})}
            for each in self.all(kind)
        ]


def render(
    values: Mapping[str, Any] | None = None,
    apis: tuple[str, ...] = SNAPSHOT_APIS,
    release: str = NAME,
    namespace: str = NAME,
) -> Render:
    """Return what the chart makes of values, in a cluster that has the APIs. Raise ChartError if it refuses."""
    return _render(json.dumps(values or {}), apis, release, namespace)


@functools.cache
def _render(values: str, apis: tuple[str, ...], release: str, namespace: str) -> Render:
    wanted = [f"--api-versions={api}" for api in apis]
    text = helm("template", release, CHART, f"--namespace={namespace}", "--values=-", *wanted, values=values)
    return Render(text, tuple(each for each in yaml.load_all(text, yaml.CSafeLoader) if each))


def refused(values: Mapping[str, Any]) -> str:
    """See that the chart refuses values, and return what it says of that."""
    with pytest.raises(ChartError) as caught:
        render(values)
    return str(caught.value)
