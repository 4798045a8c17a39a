"""Answers for a machine (JSON) and for a person (aligned text)."""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from google.protobuf.message import Message


def print_json(value: Mapping[str, Any]) -> None:
    """Print one JSON document."""
    print(json.dumps(value, indent=2))


def fields(message: Message) -> dict[str, Any]:
    """Return every field of a message under its name in proto/, set or not; an optional one that is not set is None.

    Unlike protobuf's own JSON, numbers are numbers whatever their width, and nothing is left out.
    """
    found: dict[str, Any] = {}
    for field in message.DESCRIPTOR.fields:
        value = getattr(message, field.name)
        if field.message_type is not None and field.message_type.GetOptions().map_entry:
            found[field.name] = dict(sorted(value.items()))
        elif field.is_repeated:
            found[field.name] = [fields(item) if isinstance(item, Message) else item for item in value]
        elif field.has_presence and not message.HasField(field.name):
            found[field.name] = None
        else:
            found[field.name] = fields(value) if isinstance(value, Message) else value
    return found


def table(head: Sequence[str], rows: Iterable[Sequence[str]], *, right: Iterable[int] = ()) -> str:
    """Return rows in aligned columns, two blanks apart; the columns ``right`` are flush right."""
    lines = [tuple(head), *(tuple(row) for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    flush = set(right)
    return "\n".join(
        "  ".join(
            cell.rjust(width) if column in flush else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    )
