"""The definitions in proto/ are, on the wire, those that the orchestrators are built from.

The official ones come from the Go modules that tests/tools/spec pins by version and checksum. Compared are compiled
descriptors, so order, comments and file names do not count and everything else does: messages, fields, numbers,
labels, types, JSON names, oneofs, reserved ranges, enum values, options and extensions, methods and streaming.
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, json_format, message_factory

ROOT: Final = Path(__file__).parents[3]
PROTO: Final = ROOT / "proto"
SPEC: Final = ROOT / "tests/tools/spec"
GO: Final = os.environ.get("GO", "go")

CSI: Final = PROTO / "csi/v1/csi.proto"
REGISTRATION: Final = PROTO / "pluginregistration/v1/registration.proto"


def official(module: str) -> Path:
    """Download a module at the version that go.mod names, and return where its files are."""
    sums = (SPEC / "go.sum").read_text().splitlines()
    done = subprocess.run(
        [GO, "mod", "download", "-json", module], cwd=SPEC, capture_output=True, text=True, timeout=90, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(done.stdout)
    # go refuses what go.sum contradicts, but adds what go.sum lacks.
    assert f"{found['Path']} {found['Version']} {found['Sum']}" in sums
    return Path(found["Dir"])


def contract(source: Path, scratch: Path) -> dict[str, Any]:
    """Compile one file and return what it defines, free of order and of names that only a generator reads."""
    compiled = scratch / "descriptors"
    subprocess.run(
        [
            *(sys.executable, "-m", "grpc_tools.protoc", f"--proto_path={source.parent}"),
            *("--include_imports", f"--descriptor_set_out={compiled}"),
            *("google/protobuf/descriptor.proto", source.name),
        ],
        timeout=60,
        check=True,
    )
    data = compiled.read_bytes()
    # A pool of its own, filled from the data itself: there our options are fields with names, not unknown bytes.
    pool = descriptor_pool.DescriptorPool()
    for file in descriptor_pb2.FileDescriptorSet.FromString(data).file:
        pool.Add(file)
    kind = message_factory.GetMessageClass(pool.FindMessageTypeByName("google.protobuf.FileDescriptorSet"))
    # The file itself comes after all that it imports.
    defined = json_format.MessageToDict(kind.FromString(data).file[-1], descriptor_pool=pool)  # type: ignore[attr-defined]
    assert defined.pop("name") == source.name
    defined.get("options", {}).pop("goPackage", None)
    normal = normalised(defined)
    assert isinstance(normal, dict)
    return normal


def normalised(value: object) -> object:
    """Key what has a name by its name, sort what has none, and name a field's oneof where protoc counts it."""
    if isinstance(value, dict):
        for field in value.get("field", []):
            if "oneofIndex" in field:
                field["oneofIndex"] = value["oneofDecl"][field["oneofIndex"]]["name"]
        # A method written with an empty body has options, and none of them set.
        return {key: normalised(inner) for key, inner in value.items() if (key, inner) != ("options", {})}
    if isinstance(value, list):
        if all(isinstance(item, dict) and "name" in item for item in value):
            named = {item["name"]: normalised(item) for item in value}
            assert len(named) == len(value)
            return named
        return sorted((normalised(item) for item in value), key=lambda item: json.dumps(item, sort_keys=True))
    return value


def test_csi_is_the_official_1_13(tmp_path: Path) -> None:
    ours = contract(CSI, tmp_path)
    assert ours == contract(official("github.com/container-storage-interface/spec") / "csi.proto", tmp_path)
    # The comparison looked at everything, options of our own included.
    assert len(ours["service"]) == 5
    assert ours["messageType"]["NodeStageVolumeRequest"]["field"]["secrets"]["options"] == {"[csi.v1.csi_secret]": True}


def test_plugin_registration_is_the_kubelets(tmp_path: Path) -> None:
    theirs = official("k8s.io/kubelet") / "pkg/apis/pluginregistration/v1/api.proto"
    assert contract(REGISTRATION, tmp_path) == contract(theirs, tmp_path)


@pytest.mark.parametrize(
    ("text", "instead"),
    [
        pytest.param("bool ready_to_use = 5;", "bool ready_to_use = 15;", id="field number"),
        pytest.param("bool ready_to_use = 5;", "int32 ready_to_use = 5;", id="type"),
        pytest.param("bool ready_to_use = 5;", "repeated bool ready_to_use = 5;", id="label"),
        pytest.param("bool ready_to_use = 5;", "optional bool ready_to_use = 5;", id="presence"),
        pytest.param("bool ready_to_use = 5;", "bool is_ready_to_use = 5;", id="field name"),
        pytest.param("bool ready_to_use = 5;", 'bool ready_to_use = 5 [json_name = "ready"];', id="JSON name"),
        pytest.param("bool ready_to_use = 5;", "bool ready_to_use = 5 [deprecated = true];", id="deprecated field"),
        pytest.param("bool ready_to_use = 5;", "", id="field missing"),
        pytest.param("bool ready_to_use = 5;", "bool ready_to_use = 5; bool more = 8;", id="field added"),
        pytest.param("[(csi_secret) = true, (alpha_field) = true]", "[(csi_secret) = true]", id="option missing"),
        pytest.param("bool csi_secret = 1059;", "bool csi_secret = 1058;", id="extension number"),
        pytest.param("reserved 11;", "", id="reserved value"),
        pytest.param("reserved 4;", 'reserved 4; reserved "VOLUME_CONDITION";', id="reserved name"),
        pytest.param("INODES = 2;", "INODES = 3;", id="enum value"),
        pytest.param("oneof access_type {", "oneof access_kind {", id="oneof name"),
        pytest.param("  }\n  AccessMode access_mode = 3;", "  AccessMode access_mode = 3; }", id="oneof members"),
        pytest.param("returns (stream GetMetadataDeltaResponse)", "returns (GetMetadataDeltaResponse)", id="streaming"),
        pytest.param("rpc Probe(ProbeRequest)", "rpc Probe(GetPluginInfoRequest)", id="method input"),
        pytest.param("rpc Probe(", "rpc Prove(", id="method name"),
        pytest.param("option (alpha_service) = true;", "", id="service option"),
        pytest.param("package csi.v1;", "package csi.v2;", id="package"),
    ],
)
def test_a_difference_on_the_wire_is_seen(tmp_path: Path, text: str, instead: str) -> None:
    # In the first message that has it: which one does not matter.
    ours = CSI.read_text()
    assert text in ours
    changed = tmp_path / CSI.name
    changed.write_text(ours.replace(text, instead, 1))
    assert contract(changed, tmp_path) != contract(CSI, tmp_path)


def test_order_comments_and_the_generators_own_options_are_no_difference(tmp_path: Path) -> None:
    ours = CSI.read_text()
    first, second = "  bool ready_to_use = 5;\n", "  string group_snapshot_id = 6;\n"
    assert first + second in ours
    changed = tmp_path / CSI.name
    changed.write_text(ours.replace(first + second, second + "  // No.\n" + first) + 'option go_package = "a/b";\n')
    assert contract(changed, tmp_path) == contract(CSI, tmp_path)
