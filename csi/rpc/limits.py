"""The size limits of the specification, held against every field of every request alike.

CSI 1.13, "Size Limits": 128 bytes for a string, 4 KiB for a map, unless a field's own description says otherwise. Paths
do: the least that a plugin must take is 128 bytes, and the most that the kernel takes is PATH_MAX, 4,096 with its NUL.
"""

from collections.abc import Iterable
from typing import Final

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from csi.errors import InvalidRequestError

STRING: Final = 128
MAP: Final = 4096
PATH: Final = 4095

_PATHS: Final = frozenset({"staging_target_path", "target_path", "volume_path", "volume_publish_path"})
# The total of the flags, by the field's description.
_TOTALS: Final = frozenset({"mount_flags"})
# A token that is not ours is ABORTED whatever its length (csi/rpc/pages.py).
_ELSEWHERE: Final = frozenset({"starting_token"})


def check(message: Message, place: str = "") -> None:
    """Refuse (InvalidRequestError) a message with a string, path, list or map beyond its limit, at any depth."""
    for field, value in message.ListFields():
        name = f"{place}{field.name}"
        if field.type == FieldDescriptor.TYPE_STRING:
            _strings(field, name, value)
        elif field.message_type is None:
            continue
        elif field.message_type.GetOptions().map_entry:
            _total(name, (text for pair in value.items() for text in pair))
        elif field.is_repeated:
            for number, item in enumerate(value):
                check(item, f"{name}[{number}].")
        else:
            check(value, f"{name}.")


def _strings(field: FieldDescriptor, name: str, value: str | Iterable[str]) -> None:
    if field.name in _ELSEWHERE:
        return
    if field.name in _TOTALS:
        _total(name, value)
        return
    limit = PATH if field.name in _PATHS else STRING
    for text in [value] if isinstance(value, str) else value:
        size = len(text.encode())
        if size > limit:
            raise InvalidRequestError("check field", name, f"is {size} bytes long, {limit} are allowed")


def _total(name: str, texts: Iterable[str]) -> None:
    size = sum(len(text.encode()) for text in texts)
    if size > MAP:
        raise InvalidRequestError("check field", name, f"is {size} bytes long in all, {MAP} are allowed")
