"""A node that remembers what it was asked, for tests of the services in front of it."""

from collections.abc import Callable, Sequence
from typing import Any

from csi.errors import NotFoundError, UnavailableError
from csi.fs.usage import Usage
from csi.model import Claim, Device, FsState, FsType, Group, GroupHandle, GroupId, Handle, Kind, PoolId, State, ThinId
from csi.units import GIB, MIB, Bytes
from csi.volumes.reports import Capacity, CheckReport, Condition, Finding, Listing, NodeReport, PoolReport
from csi.volumes.requests import Access, VolumeRequest

POOL = PoolId("abcdefghij")
NODE = "node-1"
CREATED = 1_700_000_000_123_456_789


def handle(thin: int) -> Handle:
    return Handle(POOL, ThinId(thin))


VOLUME = handle(1)
BLOCK = handle(2)
SNAPSHOT = handle(3)
ABSENT = handle(0xFFFF)
GROUP = GroupHandle(POOL, GroupId(7))


def device(thin: int, **changes: Any) -> Device:  # noqa: ANN401 - any of the device's fields
    fields: dict[str, Any] = {
        "handle": handle(thin),
        "kind": Kind.VOLUME,
        "state": State.READY,
        "name": f"pvc-{thin}",
        "size": Bytes(1 * GIB),
        "origin": None,
        "content_source": "",
        "group": None,
        "fs_state": FsState.FORMATTED,
        "fs_type": FsType.EXT4,
        "fs_unique": True,
        "mkfs_profile": "auto",
        "ephemeral": False,
        "created": CREATED,
    }
    return Device(**{**fields, **changes})


def raw_block(thin: int, **changes: Any) -> Device:  # noqa: ANN401 - any of the device's fields
    return device(thin, fs_state=FsState.NONE, fs_type=None, **changes)


def cut(thin: int, origin: int = 1, **changes: Any) -> Device:  # noqa: ANN401 - any of the device's fields
    source = {"origin": ThinId(origin), "content_source": str(handle(origin))}
    return device(thin, kind=Kind.SNAPSHOT, **{**source, **changes})


POOL_REPORT = PoolReport(
    pool="fast",
    pool_id=POOL,
    mode="loop-lvm",
    pool_name="thinpool--abcdefghij-pool-tpool",
    block_size=Bytes(65536),
    default_volume_size=Bytes(10 * GIB),
    backing_filesystem="extfs",
    udev_sync=False,
    devices=("/dev/loop0", "/dev/loop1"),
    data_file="/dev/dm-1",
    metadata_file="/dev/dm-0",
    data_loop_file="/var/lib/thinpool-csi/data",
    metadata_loop_file="/var/lib/thinpool-csi/metadata",
    data_used=Bytes(1 * MIB),
    data_total=Bytes(100 * GIB),
    metadata_used=Bytes(2 * MIB),
    metadata_total=Bytes(32 * MIB),
    extendable=Bytes(3 * MIB),
    min_free=Bytes(4 * MIB),
    overprovision_ratio=3.5,
    virtual_total=Bytes(5 * GIB),
    when_full="wait",
    trim="daily",
    mode_kernel="rw",
    transaction_id=4096,
    ids_left=16_000_000,
    ballast=Bytes(6 * MIB),
    volumes=1,
    snapshots=2,
    templates=5,
    deferred_deletions=3,
    quarantined=4,
)


class FakeNode:
    """Answers every call of the facade from what it holds; ``calls`` is all it was asked, in order."""

    def __init__(self) -> None:
        self.name = NODE
        self.volume_limit = 1000
        self.reset()

    def reset(self) -> None:
        self.closed = ""
        self.calls: list[tuple[str, tuple[Any, ...]]] = []
        self.failure: Exception | None = None
        self.during: Callable[[], object] | None = None
        self.is_ready = True
        self.held: dict[Handle, Device] = {
            VOLUME: device(1),
            BLOCK: raw_block(2),
            SNAPSHOT: cut(3),
        }
        self.room = Capacity(Bytes(50 * GIB), Bytes(20 * GIB), Bytes(1 * MIB))
        self.conditions: list[Condition] = []
        self.figures = Usage(Bytes(100), Bytes(60), Bytes(40), 10, 6, 4)

    @property
    def changes(self) -> list[tuple[str, tuple[Any, ...]]]:
        """The calls that change something."""
        return [call for call in self.calls if call[0] not in {"volume", "snapshot", "volumes", "snapshots", "inline"}]

    def _asked(self, what: str, *arguments: object) -> None:
        self.calls.append((what, arguments))
        if self.during:
            self.during()
        if self.failure:
            raise self.failure

    def _find(self, wanted: Handle, kind: Kind) -> Device:
        found = self.held.get(wanted)
        if found is None or found.kind is not kind:
            raise NotFoundError(f"find {kind}", str(wanted), "not there")
        return found

    def ready(self) -> bool:
        return self.is_ready

    def pool_name(self, pool: PoolId) -> str:
        assert pool == POOL
        return "fast"

    def volume(self, wanted: Handle) -> Device:
        self.calls.append(("volume", (wanted,)))
        return self._find(wanted, Kind.VOLUME)

    def snapshot(self, wanted: Handle) -> Device:
        self.calls.append(("snapshot", (wanted,)))
        return self._find(wanted, Kind.SNAPSHOT)

    def volumes(self, after: Handle | None = None, most: int | None = None) -> list[Device]:
        self.calls.append(("volumes", ()))
        return self._listed(Kind.VOLUME, after, most)

    def snapshots(self, after: Handle | None = None, most: int | None = None) -> list[Device]:
        self.calls.append(("snapshots", ()))
        return self._listed(Kind.SNAPSHOT, after, most)

    def _listed(self, kind: Kind, after: Handle | None, most: int | None) -> list[Device]:
        beyond = [key for key in sorted(self.held) if self.held[key].kind is kind and (after is None or key > after)]
        return [self.held[key] for key in beyond[:most]]

    def create_volume(self, request: VolumeRequest) -> Device:
        self._asked("create_volume", request)
        return device(
            0x10,
            name=request.name,
            size=request.required or Bytes(10 * GIB),
            content_source=str(request.source or ""),
            fs_type=None if request.block else request.fs_type or FsType.EXT4,
        )

    def delete_volume(self, wanted: Handle) -> None:
        self._asked("delete_volume", wanted)

    def expand_volume(self, wanted: Handle, required: Bytes, limit: Bytes) -> Device:
        self._asked("expand_volume", wanted, required, limit)
        found = self._find(wanted, Kind.VOLUME)
        return device(wanted.thin, size=Bytes(max(found.size, required)), fs_type=found.fs_type)

    def create_snapshot(self, name: str, source: Handle) -> Device:
        self._asked("create_snapshot", name, source)
        return cut(0x11, source.thin, name=name)

    def delete_snapshot(self, wanted: Handle) -> None:
        self._asked("delete_snapshot", wanted)

    def create_group(self, name: str, sources: Sequence[Handle]) -> Group:
        self._asked("create_group", name, tuple(sources))
        members = tuple(cut(0x20 + place, source.thin, group=GROUP.group) for place, source in enumerate(sources))
        return Group(GROUP, name, CREATED, members)

    def delete_group(self, wanted: GroupHandle, members: Sequence[Handle]) -> None:
        self._asked("delete_group", wanted, tuple(members))

    def group(self, wanted: GroupHandle, members: Sequence[Handle]) -> Group:
        self._asked("group", wanted, tuple(members))
        if wanted != GROUP:
            raise NotFoundError("find group", str(wanted), "not there")
        return Group(GROUP, "group", CREATED, tuple(cut(member.thin, group=GROUP.group) for member in members))

    def capacity(self, pool: str | None) -> Capacity:
        self._asked("capacity", pool)
        return self.room

    def stage(self, wanted: Handle, path: str, access: Access) -> None:
        self._asked("stage", wanted, path, access)

    def unstage(self, wanted: Handle, path: str) -> None:
        self._asked("unstage", wanted, path)

    def publish(self, wanted: Handle, staging: str, target: str, access: Access, *, readonly: bool) -> None:
        self._asked("publish", wanted, staging, target, access, readonly)

    def unpublish(self, volume_id: str, target: str) -> None:
        self._asked("unpublish", volume_id, target)

    def publish_ephemeral(
        self, volume_id: str, target: str, request: VolumeRequest, access: Access, *, readonly: bool
    ) -> None:
        self._asked("publish_ephemeral", volume_id, target, request, access, readonly)

    def inline(self, volume_id: str) -> Device:
        self.calls.append(("inline", (volume_id,)))
        for each in self.held.values():
            if each.ephemeral and each.name == volume_id:
                return each
        raise NotFoundError("get volume", volume_id, "not there")

    def expand_fs(self, wanted: Handle, path: str, required: Bytes = Bytes(0)) -> Bytes:
        self._asked("expand_fs", wanted, path, required)
        return self._find(wanted, Kind.VOLUME).size

    def usage(self, wanted: Handle, path: str) -> Usage:
        self._asked("usage", wanted, path)
        return self.figures

    def volume_health(self, wanted: Handle) -> list[Condition]:
        self._asked("volume_health", wanted)
        self._find(wanted, Kind.VOLUME)
        return self.conditions

    def storage_health(self) -> list[Condition]:
        self._asked("storage_health")
        return self.conditions

    def volumes_health(self) -> list[tuple[Device, list[Condition]]]:
        self._asked("volumes_health")
        return [(each, self.conditions if each.handle == VOLUME else []) for each in self.volumes()]

    def report(self) -> NodeReport:
        self._asked("report")
        return NodeReport(NODE, "0.1.0", "4.47.0", {"thin": "1.22.0"}, True, True, (POOL_REPORT,))

    def listing(self, kind: Kind) -> list[Listing]:
        self._asked("listing", kind)
        held = self.volumes() if kind is Kind.VOLUME else self.snapshots()
        return [Listing(each, "fast", Bytes(0), None, active=True) for each in held]

    def require_whole(self, operation: str) -> None:
        if self.closed:
            raise UnavailableError(operation, self.name, f"pool {self.closed} is not open")

    def in_use(self) -> list[Listing]:
        first, *rest = self.volumes()
        idle = [Listing(each, "fast", None, None, active=False) for each in rest]
        return [Listing(first, "fast", Bytes(65536), None, active=True), *idle]

    def check(self, *, rebuild: bool = False, claims: Sequence[Claim] = ()) -> CheckReport:
        self._asked("check", rebuild, *claims)
        return CheckReport(1, 3, (Finding("fast", "catalog", "behind", VOLUME),), {"fast": "ok"})
