"""Many clients of one node at once, who ask for whatever there is to ask, also about each other's volumes."""

import contextlib
import random
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Final

import grpc
from google.protobuf.descriptor import MethodDescriptor

from csi.model import Device, FsState, FsType, GroupHandle, Handle, Kind, State
from csi.pb.csi.v1 import csi_pb2 as pb
from csi.pb.csi.v1 import csi_pb2_grpc as rpc
from csi.pb.thinpool.v1 import admin_pb2
from csi.pb.thinpool.v1.admin_pb2_grpc import AdminStub
from csi.units import MIB, Bytes
from tests.faults.hostile.generator import INLINE_IDS, STRANGER, Generator, Live, methods, of_another_pool
from tests.kernel.conftest import wait_until

_DEADLINE: Final = 120.0
_SIZE: Final = 32 * MIB
_MODE: Final = pb.VolumeCapability.AccessMode.SINGLE_NODE_MULTI_WRITER
_LOOK_EVERY: Final = 2.0
_MOST: Final = 60
"""Volumes and snapshots; when there are more, none is made for a while."""
_MAKING: Final = ("CreateVolume", "CreateSnapshot", "CreateVolumeGroupSnapshot")
_SHARES: Final = {"Check": 0.01, "ListDevices": 0.01}
"""These read the pool's whole metadata, one after the other: with more of them a crowd does nothing else."""
_EXPECTED: Final = (
    *("OK", "INVALID_ARGUMENT", "NOT_FOUND", "ALREADY_EXISTS", "ABORTED", "FAILED_PRECONDITION", "OUT_OF_RANGE"),
    *("RESOURCE_EXHAUSTED", "UNIMPLEMENTED"),
)
_BUSY: Final = ("longer than 2 s", "been at it for", "has not answered for", "is being extended")
"""What an UNAVAILABLE says where a machine is too slow for so many."""


class Crowd:
    """What all clients know together, and the answers that they got."""

    def __init__(self, socket: str, kubelet: Path) -> None:
        self.answers: Counter[tuple[str, str]] = Counter()
        self.wrong: list[str] = []
        self._socket = f"unix:{socket}"
        self._kubelet = kubelet
        self._lock = threading.Lock()
        self._live = Live([], [], str(kubelet))

    def run(self, clients: int, seconds: float, dice: random.Random) -> None:
        """Let so many clients, each with a connection and a thread of its own, ask for so long."""
        ending = threading.Event()
        seeds = [dice.randrange(1 << 32) for _ in range(clients)]
        threads = [threading.Thread(target=self._one, args=(seed, ending), daemon=True) for seed in seeds]
        end = time.monotonic() + seconds
        with grpc.insecure_channel(self._socket) as channel:
            self._furnish(channel)
            self._look(channel)
            for thread in threads:
                thread.start()
            while not ending.wait(_LOOK_EVERY):
                # Among so many it may be told to come again.
                with contextlib.suppress(grpc.RpcError):
                    self._look(channel)
                if time.monotonic() > end:
                    ending.set()
        for thread in threads:
            thread.join()

    def _one(self, seed: int, ending: threading.Event) -> None:
        dice = random.Random(seed)  # noqa: S311 - to be repeated
        generator = Generator(dice, self._live, hostile=False, prefix=f"{seed:08x}")
        calls = methods()
        all_of_them = [_SHARES.get(method.name, 1.0 + len(method.input_type.fields)) for method in calls]
        no_making = [0 if method.name in _MAKING else share for method, share in zip(calls, all_of_them, strict=True)]
        with grpc.insecure_channel(self._socket, options=[("grpc.use_local_subchannel_pool", 1)]) as channel:
            while not ending.is_set():
                generator.live = self._live
                shares = all_of_them if len(self._live.devices) < _MOST else no_making
                (method,) = dice.choices(calls, shares)
                self._ask(channel, method, generator)

    def _ask(self, channel: grpc.Channel, method: MethodDescriptor, generator: Generator) -> None:
        data = generator.request(method)
        call: grpc.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(
            f"/{method.containing_service.full_name}/{method.name}"
        )
        answer = call.future(data, timeout=_DEADLINE, wait_for_ready=True)
        code, details = answer.code().name, answer.details()
        own = self._live.devices[0].handle.pool if self._live.devices else STRANGER
        elsewhere = code == "UNAVAILABLE" and of_another_pool(details or "", own, ())
        busy = code == "UNAVAILABLE" and any(each in (details or "") for each in _BUSY)
        with self._lock:
            self.answers[method.name, code] += 1
            if code not in _EXPECTED and not elsewhere and not busy:
                self.wrong.append(f"{method.name} {data[:200]!r}: {code}: {details}")

    def _furnish(self, channel: grpc.Channel) -> None:
        """Make some volumes to begin with."""
        for number, block in enumerate((False, False, False, True)):
            access = pb.VolumeCapability(access_mode=pb.VolumeCapability.AccessMode(mode=_MODE))
            (access.block if block else access.mount).SetInParent()
            request = pb.CreateVolumeRequest(
                name=f"first {number}",
                capacity_range=pb.CapacityRange(required_bytes=_SIZE),
                volume_capabilities=[access],
            )
            rpc.ControllerStub(channel).CreateVolume(request, timeout=_DEADLINE)

    def _look(self, channel: grpc.Channel) -> None:
        """See what there is, and make the staging directories, as the kubelet does."""
        listed = _listed(channel)
        devices = [_device(each, kind) for kind, each in listed if each.state == State.READY and not each.ephemeral]
        for device in devices:
            (self._kubelet / f"staging-{device.handle}").mkdir(exist_ok=True)
        active = {each.handle for _, each in listed if each.active}
        names = {device.handle.device for device in devices if str(device.handle) in active}
        self._live = Live(devices, [], str(self._kubelet), names)

    def clear(self) -> None:
        """Take away everything that there is, and wait until its space is given back."""
        with grpc.insecure_channel(self._socket) as channel:
            controller, node, admin = rpc.ControllerStub(channel), rpc.NodeStub(channel), AdminStub(channel)
            groups: dict[str, list[str]] = {}
            for inline in INLINE_IDS:
                target = f"{self._kubelet}/target-{inline}"
                node.NodeUnpublishVolume(pb.NodeUnpublishVolumeRequest(volume_id=inline, target_path=target))
            for kind, each in _listed(channel):
                handle = each.handle
                if each.group:
                    groups.setdefault(each.group, []).append(handle)
                elif kind is Kind.SNAPSHOT:
                    controller.DeleteSnapshot(pb.DeleteSnapshotRequest(snapshot_id=handle))
                elif each.state == State.READY:
                    target, staging = f"{self._kubelet}/target-{handle}", f"{self._kubelet}/staging-{handle}"
                    node.NodeUnpublishVolume(pb.NodeUnpublishVolumeRequest(volume_id=handle, target_path=target))
                    node.NodeUnstageVolume(pb.NodeUnstageVolumeRequest(volume_id=handle, staging_target_path=staging))
                    controller.DeleteVolume(pb.DeleteVolumeRequest(volume_id=handle))
            for group, members in groups.items():
                rpc.GroupControllerStub(channel).DeleteVolumeGroupSnapshot(
                    pb.DeleteVolumeGroupSnapshotRequest(group_snapshot_id=group, snapshot_ids=members)
                )

            def given_back() -> bool:
                (pool,) = admin.GetNode(admin_pb2.GetNodeRequest(), timeout=_DEADLINE).pools
                return not pool.volumes + pool.snapshots + pool.deferred_deletions

            wait_until(given_back, _DEADLINE)
            check = admin.Check(admin_pb2.CheckRequest(), timeout=_DEADLINE)
            assert not check.findings, check


def _listed(channel: grpc.Channel) -> list[tuple[Kind, admin_pb2.Device]]:
    kinds = {Kind.VOLUME: admin_pb2.DEVICE_KIND_VOLUME, Kind.SNAPSHOT: admin_pb2.DEVICE_KIND_SNAPSHOT}
    ask = AdminStub(channel).ListDevices
    return [
        (kind, each)
        for kind, number in kinds.items()
        for each in ask(admin_pb2.ListDevicesRequest(kind=number), timeout=_DEADLINE).devices
    ]


def _device(each: admin_pb2.Device, kind: Kind) -> Device:
    """Return a device as far as a caller knows of it."""
    handle, group = Handle.parse(each.handle), GroupHandle.parse(each.group)
    assert handle is not None
    return Device(
        handle=handle,
        kind=kind,
        state=State.READY,
        name=each.name,
        size=Bytes(each.size),
        origin=None,
        content_source="",
        group=group.group if group else None,
        fs_state=FsState.UNKNOWN,
        fs_type=FsType(each.fs_type) if each.fs_type else None,
        fs_unique=True,
        mkfs_profile="auto",
        ephemeral=False,
        created=each.created_ns,
    )
