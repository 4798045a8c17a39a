"""Requests made from their descriptors: plausible ones, and ones with damage in any of their fields."""

import random
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from google.protobuf.descriptor import Descriptor, FieldDescriptor, MethodDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from csi.model import TOPOLOGY_KEY, Device, GroupHandle, Kind
from csi.pb.csi.v1 import csi_pb2
from csi.pb.thinpool.v1 import admin_pb2
from csi.rpc.redact import STRIPPED
from csi.units import MIB

STRANGER: Final = "aaaaaaaaaa"
"""The id of a pool that is not here."""
_NOT_OPEN: Final = re.compile(r"pool ([a-z2-7]{10}) is not open on this node")
INLINE_IDS: Final = tuple(f"csi-{number:064x}" for number in range(4))
"""What the kubelet calls inline volumes."""
_UNSERVED: Final = ("SnapshotMetadata",)
"""Services of the specification that the node does not have."""
_NUMBERS: Final = (0, 1, -1, 511, 4096, 1 << 31, -(1 << 31), 1 << 40, 1 << 60, (1 << 60) + 1, (1 << 63) - 1, -(1 << 63))
_TEXTS: Final = (
    *("", " ", "\0", "a\0b", "a\nb", "\r", "\x0b", "\x1c", "\x85", "\u2028", "\ufeff", "\U0001f4be"),
    *(
        "..",
        "../..",
        "/",
        "//",
        "/..",
        "/proc/self/root",
        "/dev/null",
        "/etc/passwd",
        "~",
        "%s%n",
        "${IFS}",
        "`id`",
        "$(id)",
    ),
    *(
        "-",
        "--help",
        "'",
        '"',
        "\\",
        "\\040",
        "' OR 1=1 --",
        "a,b",
        "a=b",
        "x" * 128,
        "x" * 129,
        "é" * 64,
        "x" * 70_000,
    ),
    *(
        "aaaaaaaaaa-00000001",
        "aaaaaaaaaa-g00000001",
        "aaaaaaaaaa-00000000",
        "aaaaaaaaaa-ffffffff",
        "aaaaaaaaaa-0000001",
    ),
    *("volumes:", "volumes:aaaaaaaaaa-00000001", "snapshots:x", "default", "true", "maybe", "ext4", "ntfs", "xfs"),
)
_FLAGS: Final = (
    *("ro", "rw", "noatime", "discard", "sync", "errors=continue", "errors=panic", "data=journal", "nodelalloc"),
    *("delalloc", "dioread_nolock", "commit=0", "commit=999999999", "stripe=999999999", "inode_readahead_blks=3"),
    *(
        "max_batch_time=999999999",
        "usrquota",
        "grpquota",
        "prjquota",
        "quota",
        "logbufs=1",
        "logbsize=1",
        "allocsize=1k",
    ),
    *("largeio", "compress=zstd:99", "thread_pool=99", "space_cache=v2", "nodatacow", "max_inline=999999999g"),
    *(
        'context="u:r:t:s0:c1,c2"',
        'context="',
        "device=/dev/ubda",
        "bind",
        "remount",
        "a" * 5000,
        "ro,,rw",
        "journal_dev=1",
    ),
)
_KEYS: Final = ("pool", "mkfsProfile", "csi.storage.k8s.io/fstype", "csi.storage.k8s.io/ephemeral", "size", "fstype")


def methods() -> list[MethodDescriptor]:
    """Return every call of the services on a node's socket."""
    return [
        method
        for file in (csi_pb2.DESCRIPTOR, admin_pb2.DESCRIPTOR)
        for name, service in sorted(file.services_by_name.items())
        if name not in _UNSERVED
        for method in service.methods
    ]


@dataclass(frozen=True)
class Live:
    """What is there to be named by a request."""

    devices: Sequence[Device]
    paths: Sequence[str]
    """Places that are traps, and places elsewhere."""
    kubelet: str
    active: Collection[str] = ()
    """The names of devices that are in use."""

    def of(self, kind: Kind) -> list[Device]:
        """Return what there is of a kind."""
        return [device for device in self.devices if device.kind is kind]


@dataclass
class Generator:
    """Makes requests by the throws of one dice."""

    dice: random.Random
    live: Live
    hostile: bool = True
    """Whether requests are damaged; else all are such as a caller makes."""
    prefix: str = "name"
    names: int = 0
    _focus: Device | None = field(default=None, init=False)
    _inline: str = field(default="", init=False)

    def request(self, method: MethodDescriptor) -> bytes:
        """Return one request as it goes over the wire."""
        volumes = self.live.of(Kind.VOLUME)
        used = [volume for volume in volumes if volume.handle.device in self.live.active]
        among = used if used and self.luck(0.5) else volumes
        self._focus = self.dice.choice(among) if among else None
        self._inline = self.dice.choice(INLINE_IDS) if method.name in _INLINE and self.luck(0.2) else ""
        message = self._plausible(method.input_type)
        if not self.hostile:
            return message.SerializeToString()
        for _ in range(self.dice.choices((0, 1, 2, 6), (40, 40, 15, 5))[0]):
            self._damage(message)
        data = message.SerializeToString()
        if self.luck(0.02):  # on the wire a field may come twice, and both members of a oneof
            data += self._plausible(method.input_type).SerializeToString()
        if self.luck(0.02) and data:
            at = self.dice.randrange(len(data))
            data = data[:at] + self.dice.randbytes(self.dice.randrange(4)) + data[at + self.dice.randrange(3) :]
        if self.luck(0.0005):
            data += bytes(5 << 20)
        return data

    def luck(self, share: float) -> bool:
        """Tell whether something of that probability comes about."""
        return self.dice.random() < share

    # -- plausible ----------------------------------------------------------------------------------------------

    def _plausible(self, descriptor: Descriptor) -> Message:
        message = GetMessageClass(descriptor)()
        done = set()
        for each in descriptor.fields:
            one_of = each.containing_oneof
            if one_of is not None and len(one_of.fields) > 1:
                if one_of.name not in done:
                    done.add(one_of.name)
                    self._fill(message, self._member(one_of.fields))
            else:
                self._fill(message, each)
        return message

    def _member(self, fields: Sequence[FieldDescriptor]) -> FieldDescriptor:
        by_name = {each.name: each for each in fields}
        if "block" in by_name and self._focus is not None and self.luck(0.8):
            return by_name["mount" if self._focus.fs_type or self._inline else "block"]
        return self.dice.choice(fields)

    def _fill(self, message: Message, each: FieldDescriptor) -> None:
        rule = _RULES.get(each.name)
        if is_map(each):
            if rule is not None:
                getattr(message, each.name).update(rule(self))
        elif each.message_type is not None:
            share = _SHARES.get(each.name, 0.1)
            if self.luck(share):
                made = self._plausible(each.message_type)
                if each.is_repeated:
                    getattr(message, each.name).append(made)
                else:
                    getattr(message, each.name).CopyFrom(made)
        elif rule is not None:
            value = rule(self)
            if each.is_repeated:
                getattr(message, each.name).extend(value)
            elif value is not None:
                setattr(message, each.name, value)

    def handle(self, kind: Kind) -> str:
        """Return an id of a kind."""
        if kind is Kind.VOLUME and self._inline:
            return self._inline
        if kind is Kind.VOLUME and self._focus is not None:
            return str(self._focus.handle)
        found = self.live.of(kind)
        return str(self.dice.choice(found).handle) if found else f"{STRANGER}-00000007"

    def handles(self) -> list[str]:
        """Return ids of several volumes."""
        volumes = self.live.of(Kind.VOLUME)
        return [str(each.handle) for each in self.dice.sample(volumes, min(len(volumes), self.dice.randint(1, 3)))]

    def group(self) -> tuple[str, list[str]]:
        """Return the id of a group and those of its members."""
        members = [each for each in self.live.of(Kind.SNAPSHOT) if each.group is not None]
        if not members:
            return f"{STRANGER}-g00000007", [f"{STRANGER}-00000007"]
        first = members[self._focus.handle.thin % len(members) if self._focus else 0]
        assert first.group is not None
        ids = [str(each.handle) for each in members if each.group == first.group]
        return str(GroupHandle(first.handle.pool, first.group)), ids

    def name(self) -> str:
        """Return a name that is new, mostly."""
        known = [each.name for each in self.live.devices if each.name]
        if known and self.luck(0.2):
            return self.dice.choice(known)
        self.names += 1
        return f"{self.prefix} {self.names}"

    def path(self, what: str) -> str:
        """Return the place of the volume in focus."""
        of = self._inline or (str(self._focus.handle) if self._focus else "nobody")
        return f"{self.live.kubelet}/{what}-{of}"

    def context(self) -> Mapping[str, str]:
        """Return what the kubelet says of an inline volume."""
        if not self._inline:
            return {}
        return {"csi.storage.k8s.io/ephemeral": "true", "size": "32Mi", "csi.storage.k8s.io/pod.name": "p"}

    def parameters(self) -> Mapping[str, str]:
        """Return a storage class's parameters."""
        return self.dice.choice(({}, {}, {"csi.storage.k8s.io/pvc/name": "claim"}, {"pool": "default"}))

    # -- damaged ------------------------------------------------------------------------------------------------

    def _damage(self, message: Message) -> None:
        """Change one field, of the message or of one within it."""
        fields: Sequence[Any] = message.DESCRIPTOR.fields
        if not fields:
            return
        each = self.dice.choice(fields)
        value: Any = getattr(message, each.name)
        if is_map(each):
            self._damage_map(value)
        elif each.is_repeated:
            self._damage_list(each, value)
        elif each.message_type is not None:
            if self.luck(0.2) and message.HasField(each.name):
                message.ClearField(each.name)
            else:
                value.SetInParent()
                self._damage(value)
        elif self.luck(0.2):
            message.ClearField(each.name)
        else:
            setattr(message, each.name, self._scalar(each))

    def _damage_list(self, each: FieldDescriptor, value: Any) -> None:  # noqa: ANN401 - protobuf's own lists
        if len(value) and self.luck(0.3):
            del value[:]
            return
        for _ in range(self.dice.choice((1, 1, 1, 1, 2, 2, 40, 600))):
            if each.message_type is None:
                value.append(self._scalar(each))
            else:
                self._damage(value.add())

    def _damage_map(self, value: Any) -> None:  # noqa: ANN401 - protobuf's own maps
        if self.luck(0.2):
            value.clear()
            return
        for _ in range(self.dice.choice((1, 1, 1, 2, 500))):
            key = self.dice.choice(_KEYS) if self.luck(0.5) else self.text("")
            # What a message may hold is text to text, or to what the specification nests.
            value[key] = (
                self.text(key) if self.luck(0.8) else self.dice.choice(("true", "32Mi", "0", "-1", "1e9", "9Ei"))
            )

    def _scalar(self, each: FieldDescriptor) -> object:
        if each.type == FieldDescriptor.TYPE_STRING:
            return self.text(each.name)
        if each.type == FieldDescriptor.TYPE_BOOL:
            return self.luck(0.5)
        if each.type == FieldDescriptor.TYPE_ENUM:
            assert each.enum_type is not None
            return self.dice.choice((*(value.number for value in each.enum_type.values), 99, -1, (1 << 31) - 1))
        narrow = each.type in (FieldDescriptor.TYPE_INT32, FieldDescriptor.TYPE_ENUM)
        return self.dice.choice([number for number in _NUMBERS if not narrow or -(1 << 31) <= number < 1 << 31])

    def text(self, name: str) -> str:
        """Return a text that does not belong where it will stand."""
        if name == "mount_flags" and self.luck(0.9):
            return self.dice.choice(_FLAGS)
        if "path" in name and self.luck(0.9):
            return self.hostile_path()
        kind = self.dice.randrange(4)
        if kind == 0 and self.live.devices:
            return str(self.dice.choice(self.live.devices).handle)
        if kind == 1:
            return self.group()[0]
        if kind == 2 and self.live.devices:
            return self.dice.choice(self.live.devices).name or ""
        return self.dice.choice(_TEXTS)

    def hostile_path(self) -> str:
        """Return a path that leads astray."""
        start = self.dice.choice(self.live.paths)
        end = self.dice.choice(
            ("", "", "/", "/.", "/..", "/new", "/a/b", "/\n", "/x\r", "/\u2028", f"/{'n' * 256}", "/é\0")
        )
        return f"{start}{end}"


def is_map(each: FieldDescriptor) -> bool:
    """Tell whether a field is a map."""
    return each.message_type is not None and each.message_type.GetOptions().map_entry


_INLINE: Final = ("NodePublishVolume", "NodeUnpublishVolume", "NodeGetVolumeStats", "NodeGetVolumeHealth")
_MODES: Final = csi_pb2.VolumeCapability.AccessMode
_SHARES: Final = {
    "volume_capability": 0.95,
    "volume_capabilities": 0.97,
    "access_mode": 1,
    "capacity_range": 0.9,
    "block": 1,
    "mount": 1,
    "snapshot": 1,
    "volume": 1,
    "volume_content_source": 0.25,
}
"""How often a message within a message is there."""
_RULES: Final[Mapping[str, Callable[[Generator], Any]]] = {
    "name": Generator.name,
    "volume_id": lambda it: it.handle(Kind.VOLUME),
    "source_volume_id": lambda it: it.handle(Kind.VOLUME),
    "source_volume_ids": Generator.handles,
    "snapshot_id": lambda it: it.handle(Kind.SNAPSHOT),
    "group_snapshot_id": lambda it: it.group()[0],
    "snapshot_ids": lambda it: it.group()[1],
    "staging_target_path": lambda it: it.path("staging"),
    "target_path": lambda it: it.path("target"),
    "volume_path": lambda it: it.path(it.dice.choice(("staging", "staging", "target"))),
    "volume_publish_path": lambda it: it.path("target"),
    "mode": lambda it: it.dice.choice(
        (_MODES.SINGLE_NODE_WRITER, _MODES.SINGLE_NODE_MULTI_WRITER, _MODES.SINGLE_NODE_READER_ONLY)
    ),
    "fs_type": lambda it: it.dice.choices(("", "ext4", "xfs", "btrfs"), (7, 2, 0.5, 0.5))[0],
    "mount_flags": lambda it: it.dice.choices(((), ("noatime",), (it.dice.choice(_FLAGS),)), (6, 1, 3))[0],
    "required_bytes": lambda it: it.dice.choices((32 * MIB, 48 * MIB, 320 * MIB, 0), (6, 3, 1, 0.3))[0],
    "limit_bytes": lambda it: it.dice.choice((0, 0, 0, 400 * MIB)),
    "parameters": Generator.parameters,
    "volume_context": Generator.context,
    "segments": lambda _it: {TOPOLOGY_KEY: "node-a"},
    "secrets": lambda it: {"key": "value"} if it.luck(0.05) else {},
    "readonly": lambda it: it.luck(0.1),
    "max_entries": lambda it: it.dice.randrange(4),
    "starting_token": lambda it: f"volumes:{it.handle(Kind.VOLUME)}" if it.luck(0.2) else "",
    "kind": lambda it: it.dice.randrange(3),
}


def of_another_pool(details: str, own: str, secrets: Sequence[str]) -> bool:
    """Tell whether an answer is of a pool that is not here: who changes letters of handles comes to such.

    Of the request's ``secrets`` one may be a blank, which is then cut out of every message.
    """
    match = _NOT_OPEN.search(details.replace(STRIPPED, " ") if " " in secrets else details)
    return match is not None and match[1] != own
