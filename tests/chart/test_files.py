"""What is generated from the chart is as it would be generated now."""

import copy
import os
import sys

import pytest
import yaml

from tests.chart.rendered import render
from tests.guest.machine import ROOT
from tests.tools import chart
from tests.tools.chart import CRDS, MANIFEST, NAME, README


@pytest.mark.parametrize("path", [README, CRDS, MANIFEST])
def test_a_generated_file_is_what_the_chart_makes(path: str) -> None:
    with open(os.path.join(ROOT, path)) as file:
        assert file.read() == chart.generated()[path], f"run {chart.COMMAND}"


def test_the_manifests_are_the_whole_chart_but_for_its_test() -> None:
    made = copy.deepcopy(list(render().objects))
    for each in made:
        for metadata in (each["metadata"], each.get("spec", {}).get("template", {}).get("metadata", {})):
            metadata.get("labels", {}).pop("app.kubernetes.io/managed-by", None)
    definitions = [each for each in made if each["kind"] == "CustomResourceDefinition"]
    others = [each for each in made if each not in definitions and each["kind"] != "Pod"]
    assert list(yaml.load_all(chart.manifests()[CRDS], yaml.CSafeLoader)) == definitions
    namespace, *rest = yaml.load_all(chart.manifests()[MANIFEST], yaml.CSafeLoader)
    assert rest == others
    assert (namespace["kind"], namespace["metadata"]["name"]) == ("Namespace", NAME)
    assert namespace["metadata"]["labels"] == {"pod-security.kubernetes.io/enforce": "privileged"}


def test_the_check_names_the_file_that_differs_and_the_way_out(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["chart", "check"])
    assert chart.main() == 0
    monkeypatch.setattr(chart, "generated", lambda: {README: "otherwise"})
    assert chart.main() == 1
    assert capsys.readouterr().err == f"{README}: not what the chart makes; run {chart.COMMAND}\n"
