"""What holds of all that the chart makes, whatever the values are."""

import os
import re
from collections.abc import Iterator
from typing import Any, Final

import pytest
import yaml

from csi.agent import metrics
from csi.volumes.reports import Severity
from tests.chart.rendered import MONITORING_APIS, NAMESPACED, Render, render
from tests.cluster.programs import SIDECARS
from tests.guest.machine import ROOT
from tests.tools.chart import NAME, SNAPSHOT_APIS, Object, defaults

_METRIC: Final = re.compile(r"thinpool_csi_\w+")
_SEVERITY: Final = re.compile(r'severity=~?"([^"]*)"')


@pytest.fixture(params=["defaults", "full", "other"])
def made(request: pytest.FixtureRequest) -> Render:
    """Renders that differ in all that can: values, APIs, the names of the release and its namespace."""
    if request.param == "defaults":
        return render({}, ())
    with open(os.path.join(ROOT, "tests/chart/full.yaml")) as file:
        full = yaml.safe_load(file)
    if request.param == "full":
        return render(full, (*SNAPSHOT_APIS, *MONITORING_APIS))
    # YAML would take both for numbers.
    return render(full | {"networkPolicy": {"enabled": True}}, (*SNAPSHOT_APIS, *MONITORING_APIS), "007", "42")


def test_every_container_is_confined_but_the_nodes(made: Render) -> None:
    for name, container in made.containers.items():
        context = container["securityContext"]
        assert context["readOnlyRootFilesystem"] is True, name
        if name == "node":
            assert context["privileged"] is True
        else:
            assert context["capabilities"] == {"drop": ["ALL"]}, name
            assert context["allowPrivilegeEscalation"] is False, name
            assert "privileged" not in context, name


def test_every_container_says_what_it_needs_and_may_use(made: Render) -> None:
    for name, container in made.containers.items():
        assert container["resources"]["requests"]["memory"], name
        assert container["resources"]["limits"]["memory"], name


def test_the_controllers_run_as_nobody_special(made: Render) -> None:
    context = made.controller["securityContext"]
    assert context["runAsNonRoot"] is True
    assert context["runAsUser"] > 0
    assert context["seccompProfile"] == {"type": "RuntimeDefault"}
    assert not any("hostPath" in volume for volume in made.controller["volumes"])
    assert not any(made.controller.get(key) for key in ("hostNetwork", "hostPID", "hostIPC"))


def test_one_process_on_a_node_serves_its_pools(made: Render) -> None:
    assert [each["name"] for each in made.node["containers"]] == ["node"]
    assert "initContainers" not in made.node
    update = made.one("DaemonSet")["spec"]["updateStrategy"]
    assert (update["type"], update["rollingUpdate"]["maxSurge"]) == ("RollingUpdate", 0)


def test_helm_keeps_the_definitions_and_nothing_else(made: Render) -> None:
    kept = [each for each in made.objects if "helm.sh/resource-policy" in each["metadata"].get("annotations", {})]
    assert {each["metadata"]["annotations"]["helm.sh/resource-policy"] for each in kept} == {"keep"}
    assert kept == made.all("CustomResourceDefinition")
    assert len(kept) == len(("ThinPool", "ThinPoolNode"))


def test_what_can_be_in_a_namespace_is_in_the_releases(made: Render) -> None:
    namespace = "42" if made.one("DaemonSet")["metadata"]["name"].startswith("007") else _namespace(made)
    for each in made.objects:
        wanted = namespace if each["kind"] in NAMESPACED else None
        assert each["metadata"].get("namespace") == wanted, each["kind"]
    subjects = [
        subject
        for kind in ("ClusterRoleBinding", "RoleBinding")
        for each in made.all(kind)
        for subject in each["subjects"]
    ]
    assert {each["namespace"] for each in subjects} == {namespace}


def test_a_node_may_do_what_it_must_and_no_more(made: Render) -> None:
    name = made.node["serviceAccountName"]
    controllers = made.controller["serviceAccountName"] + "s"
    assert made.one("ClusterRole", name)["rules"] == [
        _rule("thinpool-csi.dev", ["thinpools", "thinpoolnodes"], ["get", "list", "watch"]),
        _rule("thinpool-csi.dev", ["thinpoolnodes/status"], ["patch"]),
        _rule("events.k8s.io", ["events"], ["create"]),
    ]
    assert made.one("Role", name)["rules"] == [
        _rule("", ["configmaps"], ["get", "list", "watch"]) | {"resourceNames": [controllers]}
    ]


def test_nobody_may_do_anything_to_everything_or_read_secrets(made: Render) -> None:
    rules = [rule for kind in ("ClusterRole", "Role") for each in made.all(kind) for rule in each["rules"]]
    assert len(rules) > len(made.all("ClusterRole"))
    for rule in rules:
        words = {word for listed in rule.values() for word in listed}
        assert not words & {"*", "secrets", "escalate", "bind", "impersonate"}, rule
        assert not any(word.startswith(("pods/", "secrets/")) for word in words), rule


def test_accounts_have_the_roles_of_their_name(made: Render) -> None:
    accounts = {each["metadata"]["name"] for each in made.all("ServiceAccount")}
    assert accounts == {made.node["serviceAccountName"], made.controller["serviceAccountName"]}
    for kind in ("ClusterRole", "Role"):
        assert {each["metadata"]["name"] for each in made.all(kind)} == accounts
        bindings = made.all(f"{kind}Binding")
        assert {each["roleRef"]["name"] for each in bindings} == accounts
        for each in bindings:
            assert each["roleRef"]["kind"] == kind
            assert [subject["name"] for subject in each["subjects"]] == [each["roleRef"]["name"]]
    assert made.test["automountServiceAccountToken"] is False


def test_selectors_find_the_pods_that_they_are_for(made: Render) -> None:
    labels = {each["kind"]: each["spec"]["template"]["metadata"]["labels"] for each in made.workloads}
    for each in made.workloads:
        assert _selected(each["spec"]["selector"], labels) == {each["kind"]}
    for kind, field in (("PodDisruptionBudget", "selector"), ("NetworkPolicy", "podSelector")):
        for each in made.all(kind):
            assert _selected(each["spec"][field], labels) == {"Deployment"}
    for each in made.all("PodMonitor"):
        assert _selected(each["spec"]["selector"], labels) == {"Deployment", "DaemonSet"}
        (endpoint,) = each["spec"]["podMetricsEndpoints"]
        for pod in (made.node["containers"][0], made.controller["containers"][0]):
            assert endpoint["port"] in {port["name"] for port in pod["ports"]}


def test_the_default_affinity_keeps_the_controllers_apart() -> None:
    default = render({}, ())
    affinity = default.controller["affinity"]["podAntiAffinity"]
    (term,) = affinity["preferredDuringSchedulingIgnoredDuringExecution"]
    labels = {"Deployment": default.one("Deployment")["spec"]["template"]["metadata"]["labels"]}
    assert _selected(term["podAffinityTerm"]["labelSelector"], labels)


def test_what_is_named_in_arguments_and_policies_exists(made: Render) -> None:
    maps = {each["metadata"]["name"] for each in made.all("ConfigMap")}
    named = {
        argument.partition("=")[2]
        for name in ("node", "controller")
        for argument in made.args(name)
        if argument.startswith(("--controllers-config=", "--pools-config="))
    }
    assert named == maps
    allowed = {name for each in made.all("Role") for rule in each["rules"] for name in rule.get("resourceNames", [])}
    assert allowed == maps
    policies = made.all("ValidatingAdmissionPolicy")
    bound = {each["spec"]["policyName"] for each in made.all("ValidatingAdmissionPolicyBinding")}
    assert {each["metadata"]["name"] for each in policies} == bound
    users = {
        f"system:serviceaccount:{each['metadata']['namespace']}:{each['metadata']['name']}"
        for each in made.all("ServiceAccount")
    }
    conditions = [each["expression"] for policy in policies for each in policy["spec"]["matchConditions"]]
    assert {found for each in conditions for found in re.findall(r'"(system:[^"]*)"', each)} == users


def test_mounts_are_of_volumes_that_there_are(made: Render) -> None:
    for pod in (made.node, made.controller, made.test):
        volumes = [volume["name"] for volume in pod["volumes"]]
        mounted = {mount["name"] for each in pod["containers"] for mount in each["volumeMounts"]}
        assert mounted == set(volumes)
        assert len(volumes) == len(mounted)


def test_every_object_says_what_it_belongs_to(made: Render) -> None:
    for each in _labelled(made):
        labels = each["labels"]
        assert labels["app.kubernetes.io/name"] == NAME
        assert all(isinstance(value, str) for value in labels.values()), labels


@pytest.mark.parametrize("release", ["x" * 53, f"{NAME}-{'x' * 40}", f"my-{NAME}"])
def test_a_long_name_of_a_release_gives_names_that_can_be(release: str) -> None:
    made = render({}, SNAPSHOT_APIS, release)
    for each in made.workloads:
        # A pod's name is longer by two suffixes.
        assert re.fullmatch(r"[a-z]([a-z0-9-]{0,50}[a-z0-9])?", each["metadata"]["name"])
    assert len({each["metadata"]["name"] for each in made.workloads}) == len(made.workloads)


def test_the_driver_is_announced_as_it_is(made: Render) -> None:
    driver = made.one("CSIDriver", "thinpool-csi.dev")
    assert driver["spec"] == {
        "attachRequired": False,
        "podInfoOnMount": True,
        "storageCapacity": True,
        "fsGroupPolicy": "File",
        "seLinuxMount": True,
        "volumeLifecycleModes": ["Persistent", "Ephemeral"],
    }


def test_side_cars_are_the_versions_that_are_tested() -> None:
    with open(os.path.join(ROOT, "tests/tools/cluster/go.mod")) as file:
        modules = dict(re.findall(r"^\t(\S+) (v\S+)", file.read(), re.MULTILINE))
    images = {f"csi-{name}": each["image"] for name, each in defaults()["sidecars"].items()}
    assert images == {
        name: {"repository": f"registry.k8s.io/sig-storage/{name}", "tag": modules[module], "digest": ""}
        for name, module in SIDECARS.items()
    }


def test_alerts_are_about_metrics_that_the_driver_has() -> None:
    known = {f"thinpool_csi_pool_{name}" for name in (*metrics._GAUGES, "condition")} | {metrics.ORPHANS}
    rule = render({}, MONITORING_APIS).one("PrometheusRule")
    expressions = [each["expr"] for group in rule["spec"]["groups"] for each in group["rules"]]
    for each in expressions:
        named = set(_METRIC.findall(each))
        assert named
        assert named <= known
    severities = {word for each in expressions for found in _SEVERITY.findall(each) for word in found.split("|")}
    assert severities == {*Severity} - {Severity.INFO}


def _rule(group: str, resources: list[str], verbs: list[str]) -> Object:
    return {"apiGroups": [group], "resources": resources, "verbs": verbs}


def _namespace(made: Render) -> str:
    return str(made.one("DaemonSet")["metadata"]["namespace"])


def _selected(selector: Object, labels: dict[str, Any]) -> set[str]:
    """Return whose labels a selector picks."""
    assert selector.keys() == {"matchLabels"}
    return {name for name, given in labels.items() if selector["matchLabels"].items() <= given.items()}


def _labelled(made: Render) -> Iterator[Object]:
    """Yield the metadata of all that the chart makes but for the definitions, which outlive a release."""
    for each in made.objects:
        if each["kind"] != "CustomResourceDefinition":
            yield each["metadata"]
    for each in made.workloads:
        yield each["spec"]["template"]["metadata"]
