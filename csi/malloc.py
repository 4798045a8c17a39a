"""The C library's allocator: how much it may keep for itself."""

import ctypes
from typing import Final

_M_ARENA_MAX: Final = -8
"""malloc.h of glibc."""
_ARENAS: Final = 2


def few_arenas() -> None:
    """Let all threads share two arenas; to be called before there are others.

    By default each of dozens of threads, all of which the interpreter's lock lets allocate in turns, gets its own, up
    to eight for each processor, and what one has freed no other can use.
    """
    # A C library without the call (musl) has no such arenas.
    if mallopt := getattr(ctypes.CDLL(None), "mallopt", None):
        mallopt(_M_ARENA_MAX, _ARENAS)
