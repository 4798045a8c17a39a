"""Each value of the chart changes what it is for."""

from typing import Any, Final

import pytest

from tests.chart.cases import CASES, Case
from tests.chart.rendered import MONITORING_APIS, Render, render
from tests.tools.chart import SNAPSHOT_APIS, fields, values

_SNAPSHOTS: Final = SNAPSHOT_APIS[:1]
_SNAPSHOT: Final = "snapshot.storage.k8s.io"
_GROUPS: Final = "groupsnapshot.storage.k8s.io"


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.names[-1])
def test_a_value_changes_what_it_is_for(case: Case) -> None:
    assert case.seen(render(case.values, case.apis)) == case.then
    assert case.seen(render({}, case.apis)) != case.then


def test_every_value_has_a_case() -> None:
    tested = {name for case in CASES for name in case.names}
    # A parent chart's: nothing reads it.
    wanted = {value.name for value in values()} - {"global"}
    wanted |= {f"{value.name}.{field.name}" for value in values() if value.item for field in fields(value)}
    assert not wanted - tested


def test_the_kubelets_directory_is_the_same_in_arguments_and_mounts() -> None:
    made = render({"kubeletDir": "/data/kubelet"})
    assert {
        "--endpoint=unix:///data/kubelet/plugins/thinpool-csi.dev/csi.sock",
        "--registration-dir=/data/kubelet/plugins_registry",
        "--kubelet-dir=/data/kubelet",
    } <= set(made.args("node"))
    mounts = {each["name"]: each for each in made.containers["node"]["volumeMounts"]}
    assert mounts["kubelet"]["mountPath"] == _host_path(made.node, "kubelet") == "/data/kubelet"
    assert _host_path(made.test, "plugin") == "/data/kubelet/plugins/thinpool-csi.dev"


@pytest.mark.parametrize(
    ("enabled", "groups", "apis", "wanted"),
    [
        ("auto", "auto", (), (False, False)),
        ("auto", "auto", _SNAPSHOTS, (True, False)),
        ("auto", "auto", SNAPSHOT_APIS, (True, True)),
        ("auto", True, _SNAPSHOTS, (True, True)),
        ("auto", False, SNAPSHOT_APIS, (True, False)),
        ("auto", True, (), (False, False)),
        (True, "auto", (), (True, False)),
        (True, True, (), (True, True)),
        (False, "auto", SNAPSHOT_APIS, (False, False)),
        (False, True, SNAPSHOT_APIS, (False, False)),
    ],
)
def test_snapshots_are_there_when_the_api_or_the_user_says_so(
    enabled: object, groups: object, apis: tuple[str, ...], wanted: tuple[bool, bool]
) -> None:
    made = render({"snapshots": {"enabled": enabled, "groups": groups}}, apis)
    gate = "--feature-gates=CSIVolumeGroupSnapshot=true"
    assert ("csi-snapshotter" in made.containers, gate in made.args("csi-snapshotter")) == wanted
    assert (_may_change(made, _SNAPSHOT), _may_change(made, _GROUPS)) == wanted


@pytest.mark.parametrize(("enabled", "apis"), [("auto", ()), ("auto", SNAPSHOT_APIS), (False, SNAPSHOT_APIS)])
def test_the_controller_reads_snapshots_whether_or_not_they_are_there(enabled: object, apis: tuple[str, ...]) -> None:
    """Else it is forbidden, not told that there are none, and the one that leads never begins."""
    (rule,) = [
        each
        for each in _rules(render({"snapshots": {"enabled": enabled}}, apis))
        if "volumesnapshotcontents" in each["resources"] and "list" in each["verbs"]
    ]
    assert rule["apiGroups"] == [_SNAPSHOT]
    assert rule["verbs"] == ["get", "list", "watch"]


@pytest.mark.parametrize(("value", "kind"), [("podMonitor", "PodMonitor"), ("prometheusRule", "PrometheusRule")])
@pytest.mark.parametrize(
    ("enabled", "apis", "wanted"),
    [
        ("auto", (), False),
        ("auto", MONITORING_APIS, True),
        (True, (), True),
        (False, MONITORING_APIS, False),
    ],
)
def test_monitoring_is_there_when_the_api_or_the_user_says_so(
    value: str, kind: str, enabled: object, apis: tuple[str, ...], wanted: bool
) -> None:
    made = render({value: {"enabled": enabled}}, apis)
    assert bool(made.all(kind)) == wanted


def test_the_apis_are_looked_for_one_by_one() -> None:
    made = render({}, MONITORING_APIS[:1])
    assert made.all("PodMonitor")
    assert not made.all("PrometheusRule")


def test_a_default_class_is_marked_only_where_it_is_said() -> None:
    made = render({"storageClasses": [{"name": "a", "default": False}, {"name": "b"}]})
    assert all("annotations" not in each["metadata"] for each in made.all("StorageClass"))


def _host_path(pod: dict[str, Any], volume: str) -> str:
    (found,) = [each for each in pod["volumes"] if each["name"] == volume]
    return str(found["hostPath"]["path"])


def _rules(made: Render) -> list[dict[str, Any]]:
    return list(made.one("ClusterRole", "thinpool-csi-controller")["rules"])


def _may_change(made: Render, group: str) -> bool:
    """Tell whether the controller may change anything of a group of the API."""
    return any(group in rule["apiGroups"] and "patch" in rule["verbs"] for rule in _rules(made))
