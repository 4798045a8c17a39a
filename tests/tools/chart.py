"""What is made from the chart: ``python -m tests.tools.chart generate`` writes its README and the manifests of deploy/.

``check`` tells which of them are otherwise in the checkout, with exit status 1. Helm is the one that the environment's
HELM names, else that of ``tests/tools/setup helm``.
"""

import argparse
import functools
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

import yaml

from tests.guest.machine import ROOT

CHART: Final = "charts/thinpool-csi"
NAME: Final = "thinpool-csi"
"""Of the release and of its namespace."""
SNAPSHOT_APIS: Final = ("snapshot.storage.k8s.io/v1", "groupsnapshot.storage.k8s.io/v1")
CRDS: Final = "deploy/crds.yaml"
MANIFEST: Final = "deploy/thinpool-csi.yaml"
README: Final = f"{CHART}/README.md"

COMMAND: Final = "make manifests"
_BUILD_LIMIT: Final = 1200.0
_LIMIT: Final = 100.0
_WIDE: Final = 1 << 16
_DOCUMENT: Final = re.compile(r"^---\n", re.MULTILINE)
_DEFINITION: Final = re.compile(r"^kind: CustomResourceDefinition$", re.MULTILINE)
_HELMS: Final = re.compile(r"^ *app\.kubernetes\.io/managed-by: Helm\n", re.MULTILINE)

Object = dict[str, Any]


class ChartError(Exception):
    """Helm refused; the message holds what it said."""


@dataclass(frozen=True)
class Value:
    """One value of the chart: its dotted name, its schema, and its default (None: none)."""

    name: str
    schema: Object
    default: object
    required: bool = False

    @property
    def item(self) -> Object:
        """The schema of what it lists, {} if that is not a list of objects with known fields."""
        listed = resolved(self.schema.get("items", {}))
        return listed if "properties" in listed else {}


# -- the chart -----------------------------------------------------------------------------------------------------


@functools.cache
def schema() -> Object:
    """Return the schema of the values."""
    return dict(json.loads(_read(f"{CHART}/values.schema.json")))


@functools.cache
def defaults() -> Object:
    """Return the default values."""
    return dict(yaml.safe_load(_read(f"{CHART}/values.yaml")))


def resolved(part: Mapping[str, Any]) -> Object:
    """Return a part of the schema with what it refers to; what it says itself comes first."""
    found = dict(part)
    while "$ref" in found:
        definition = schema()["definitions"][found.pop("$ref").removeprefix("#/definitions/")]
        found = {**definition, **found}
    return found


def values() -> list[Value]:
    """Return the values that nothing is nested in, as the schema orders them."""
    return list(_leaves(schema(), defaults(), ""))


def fields(value: Value) -> list[Value]:
    """Return the fields of what a value lists, likewise."""
    return list(_leaves(value.item, {}, ""))


def _leaves(part: Object, given: Mapping[str, Any], prefix: str) -> Iterator[Value]:
    for key, each in part["properties"].items():
        below, default = resolved(each), given.get(key)
        if "properties" in below:
            yield from _leaves(below, default or {}, f"{prefix}{key}.")
        else:
            default = below.get("default") if default is None else default
            yield Value(f"{prefix}{key}", below, default, key in part.get("required", ()))


# -- its README ----------------------------------------------------------------------------------------------------


def readme() -> str:
    """Return the chart's README."""
    chart = yaml.safe_load(_read(f"{CHART}/Chart.yaml"))
    tables = [
        f"### Each of `{value.name}`\n\n{value.schema['description']}\n\n{_table(fields(value))}"
        for value in values()
        if len(value.item.get("properties", {})) > 1
    ]
    return "\n".join([_INTRODUCTION.format(**chart), "## Values\n", _table(values()), *tables])


_INTRODUCTION: Final = f"""<!-- Made by `{COMMAND}`; change values.yaml or values.schema.json. -->

# {{name}}

{{description}}. Version {{version}}, for Kubernetes `{{kubeVersion}}`.

```sh
helm install {NAME} {CHART} --namespace {NAME} --create-namespace
```

The nodes' pods are privileged: they mount the volumes and make devices. Where the cluster enforces another Pod Security
Standard, let the namespace allow it first:

```sh
kubectl create namespace {NAME}
kubectl label namespace {NAME} pod-security.kubernetes.io/enforce=privileged
```

`image` names an image that the nodes have or can pull. Snapshots need the cluster's snapshot controller and its CRDs;
`helm upgrade` finds those that came later. What to do next, Helm says: make a pool and a StorageClass, as in
[deploy/examples](../../deploy/examples).

`helm uninstall` leaves the CRDs, the pools and all data; a new installation takes them over.
"""


def _table(rows: list[Value]) -> str:
    lines = ["| value | type | default | meaning |", "|---|---|---|---|"]
    lines += [
        f"| `{row.name}` | {_kind(row.schema)} | {_default(row)} | {row.schema['description']} |".replace("\n", " ")
        for row in rows
    ]
    return "\n".join(lines) + "\n"


def _kind(part: Object, ending: str = "") -> str:
    if "enum" in part:
        return ", ".join(f"`{_yaml(each)}`" for each in part["enum"])
    kinds = part["type"] if isinstance(part["type"], list) else [part["type"]]
    if kinds == ["array"]:
        return f"list of {_kind(resolved(part['items']), 's')}"
    if kinds == ["object"] and isinstance(part.get("additionalProperties"), dict):
        return f"map of {_kind(part['additionalProperties'], 's')}"
    return " or ".join(f"{each}{ending}" for each in kinds)


def _default(row: Value) -> str:
    if row.required:
        return "required"
    return "none" if row.default is None else f"`{_yaml(row.default)}`"


def _yaml(value: object) -> str:
    """Return a value as one would write it on one line of YAML."""
    if isinstance(value, str):
        return value or '""'
    return yaml.safe_dump(value, default_flow_style=True, sort_keys=False, width=_WIDE).removesuffix("\n...\n").strip()


# -- manifests -----------------------------------------------------------------------------------------------------


def helm(*words: str, values: str = "") -> str:
    """Run Helm, with ``values`` at its standard input, and return what it wrote. Raise ChartError if it fails."""
    argv = (_helm(), *words)
    try:
        done = subprocess.run(argv, cwd=ROOT, input=values, capture_output=True, text=True, check=False, timeout=_LIMIT)
    except subprocess.TimeoutExpired as error:
        raise ChartError(f"helm {words[0]}: still running after {_LIMIT:g} s") from error
    if done.returncode:
        raise ChartError(f"helm {words[0]}: {(done.stderr + done.stdout).strip()}")
    return done.stdout


@functools.cache
def _helm() -> str:
    setup = [os.path.join(ROOT, "tests/tools/setup"), "helm"]
    return os.environ.get("HELM") or subprocess.check_output(setup, text=True, timeout=_BUILD_LIMIT).strip()


def manifests() -> dict[str, str]:
    """Return the files of deploy/: the definitions, and all else that the chart makes by its defaults."""
    apis = [f"--api-versions={api}" for api in SNAPSHOT_APIS]
    text = helm("template", NAME, CHART, f"--namespace={NAME}", "--skip-tests", *apis)
    # Nobody's Helm manages these.
    documents = [f"---\n{_HELMS.sub('', part).strip()}\n" for part in _DOCUMENT.split(text) if part.strip()]
    definitions = [document for document in documents if _DEFINITION.search(document)]
    others = [document for document in documents if document not in definitions]
    comment = f"# Made from {CHART} by `{COMMAND}`.\n"
    return {
        CRDS: comment + "".join(definitions),
        MANIFEST: comment + _NAMESPACE + "".join(others),
    }


_NAMESPACE: Final = f"""---
apiVersion: v1
kind: Namespace
metadata:
  name: {NAME}
  labels:
    # The nodes' pods are privileged.
    pod-security.kubernetes.io/enforce: privileged
"""


# -- the program ---------------------------------------------------------------------------------------------------


def generated() -> dict[str, str]:
    """Return what each generated file should hold, by its path from the top directory."""
    return {README: readme(), **manifests()}


def main() -> int:
    """Write the files, or compare them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("generate", "check"))
    what = parser.parse_args().what
    try:
        wanted = generated()
    except ChartError as error:
        print(error, file=sys.stderr)
        return 1
    different = [path for path, text in wanted.items() if _read(path) != text]
    if what == "check":
        for path in different:
            print(f"{path}: not what the chart makes; run {COMMAND}", file=sys.stderr)
        return 1 if different else 0
    for path in different:
        with open(os.path.join(ROOT, path), "w") as file:
            file.write(wanted[path])
        print(path)
    return 0


def _read(path: str) -> str:
    """Return a file of the checkout, "" if there is none."""
    try:
        with open(os.path.join(ROOT, path)) as file:
            return file.read()
    except FileNotFoundError:
        return ""


if __name__ == "__main__":
    sys.exit(main())
