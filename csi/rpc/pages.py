"""Lists in pages.

A page is cut at a handle, not at a number, so that a list stays whole while volumes come and go between two pages:
what is there from the first page to the last is listed exactly once.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Self, TypeVar

from csi.errors import PageTokenError
from csi.model import Handle
from csi.rpc.validate import invalid, shown

LONGEST: Final = 4096
"""Entries in a page when the caller sets no limit: an entry is about 300 bytes, a gRPC message at most 4 MiB."""

_Item = TypeVar("_Item")


@dataclass(frozen=True)
class Page:
    """Which part of a list is wanted."""

    kind: str
    """Which list; part of its tokens, so that none is taken for another list's."""
    size: int
    after: Handle | None
    """The last handle of the page before; None for the first page."""

    @classmethod
    def read(cls, kind: str, most: int, token: str) -> Self:
        """Read ``max_entries`` and ``starting_token`` of a request.

        Raise InvalidRequestError for a negative number, PageTokenError for a token that is not of this list.
        """
        if most < 0:
            raise invalid("max_entries", f"{most} is negative")
        prefix, _, text = token.partition(":")
        after = Handle.parse(text)
        if token and (prefix != kind or after is None):
            raise PageTokenError("list", kind, f"starting_token {shown(token)} was not given out for this list")
        return cls(kind, min(most or LONGEST, LONGEST), after)

    def cut(self, items: Sequence[_Item], handle_of: Callable[[_Item], Handle]) -> tuple[list[_Item], str]:
        """Return this page of ``items``, which are in the order of their handles, and the token of the next, if any."""
        rest = [item for item in items if self.after is None or handle_of(item) > self.after]
        page = rest[: self.size]
        return page, f"{self.kind}:{handle_of(page[-1])}" if len(rest) > len(page) else ""
