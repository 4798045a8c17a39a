"""The size limits of the specification, held against every field of every request alike.

CSI 1.13, "Size Limits": 128 bytes for a string, 4 KiB for a map, unless a field's own description says otherwise. Paths
do: the least that a plugin must take is 128 bytes, and the most that the kernel takes is PATH_MAX, 4,096 with its NUL.
"""

import enum
import functools
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


class _Form(enum.Enum):
    """What a field is for these limits."""

    STRINGS = enum.auto()
    MAP = enum.auto()
    MESSAGES = enum.auto()
    MESSAGE = enum.auto()
    OTHER = enum.auto()


def check(message: Message, place: str = "") -> None:
    """Refuse (InvalidRequestError) a message with a string, path, list or map beyond its limit, at any depth."""
    for field, value in message.ListFields():
        form = _form(field)
        if form is _Form.STRINGS:
            _strings(field, f"{place}{field.name}", value)
        elif form is _Form.MAP:
            _total(f"{place}{field.name}", (text for pair in value.items() for text in pair))
        elif form is _Form.MESSAGES:
            for number, item in enumerate(value):
                check(item, f"{place}{field.name}[{number}].")
        elif form is _Form.MESSAGE:
            check(value, f"{place}{field.name}.")


@functools.cache
def _form(field: FieldDescriptor) -> _Form:
    """Return what to look at; remembered, for descriptors are slow to ask."""
    if field.type == FieldDescriptor.TYPE_STRING:
        return _Form.STRINGS
    if field.message_type is None:
        return _Form.OTHER
    if field.message_type.GetOptions().map_entry:
        return _Form.MAP
    return _Form.MESSAGES if field.is_repeated else _Form.MESSAGE


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
