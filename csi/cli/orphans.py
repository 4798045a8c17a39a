"""``thinpool-csi orphans``: what the nodes hold and nothing in the cluster names, and its removal."""

import argparse
import sys
from collections.abc import Mapping, Sequence
from typing import Final

import grpc

from csi import log
from csi.agent.orphans import reported
from csi.cli import plain
from csi.cli.served import explain
from csi.errors import DriverError, NotFoundError, StateError, UnavailableError
from csi.kube.api import Api
from csi.kube.handles import named
from csi.kube.resources import PERSISTENT_VOLUMES, SNAPSHOT_CONTENTS, THIN_POOL_NODES
from csi.pb.csi.v1 import csi_pb2 as pb
from csi.pb.csi.v1.csi_pb2_grpc import ControllerStub, GroupControllerStub
from csi.rpc.endpoint import socket_path

_HEAD: Final = ("HANDLE", "KIND", "POOL", "NODE", "GROUP", "SINCE")
_DEADLINE: Final = 60.0

Orphan = Mapping[str, str]


def run(options: argparse.Namespace) -> int:
    """Print the orphans, or remove those that are named; 1 if something could not be done."""
    log.configure(options.log_format, options.log_level)
    try:
        api = Api.connect(options.kubeconfig)
        orphans = reported(api.all(THIN_POOL_NODES)[0])
        if options.remove:
            return _remove(options, api, orphans)
    except DriverError as error:
        print(f"thinpool-csi: {error}", file=sys.stderr)
        return 1
    if options.output == "json":
        plain.print_json({"orphans": orphans})
    else:
        print(plain.table(_HEAD, ([each.get(key.lower(), "-") for key in _HEAD] for each in orphans)))
    return 0


def _remove(options: argparse.Namespace, api: Api, orphans: Sequence[Orphan]) -> int:
    """Remove what is named, if the cluster, asked anew, still names nothing of it."""
    failed = 0
    with grpc.insecure_channel(f"unix:{socket_path(options.endpoint)}") as channel:
        for handle in dict.fromkeys(options.remove):
            try:
                print(_remove_one(handle, orphans, _named(api), channel))
            except DriverError as error:
                print(f"thinpool-csi: {error}", file=sys.stderr)
                failed = 1
    return failed


def _remove_one(handle: str, orphans: Sequence[Orphan], known: frozenset[str], channel: grpc.Channel) -> str:
    operation = "remove orphan"
    orphan = next((each for each in orphans if each["handle"] == handle), None)
    if orphan is None:
        way_out = "'thinpool-csi orphans' lists those that are"
        raise NotFoundError(operation, handle, "it is not told of as an orphan", way_out=way_out)
    group = orphan.get("group", "")
    members = [each["handle"] for each in orphans if group and each.get("group") == group] or [handle]
    for each in members:
        if each in known:
            raise StateError(operation, each, "an object of the cluster names it now", way_out="delete that object")
    try:
        if group:
            request = pb.DeleteVolumeGroupSnapshotRequest(group_snapshot_id=group, snapshot_ids=members)
            GroupControllerStub(channel).DeleteVolumeGroupSnapshot(request, timeout=_DEADLINE)
        elif orphan["kind"] == "Volume":
            ControllerStub(channel).DeleteVolume(pb.DeleteVolumeRequest(volume_id=handle), timeout=_DEADLINE)
        else:
            ControllerStub(channel).DeleteSnapshot(pb.DeleteSnapshotRequest(snapshot_id=handle), timeout=_DEADLINE)
    except grpc.RpcError as error:
        raise UnavailableError(operation, handle, explain(error)) from error
    return f"removed {', '.join(members)}"


def _named(api: Api) -> frozenset[str]:
    volumes = api.all(PERSISTENT_VOLUMES)[0]
    try:
        contents = api.all(SNAPSHOT_CONTENTS)[0]
    except NotFoundError:
        contents = []  # a cluster without the snapshot API
    return named(volumes, contents)
