"""The demo's live account on a terminal: steps, what happens in them, their time and the pool's space."""

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final, TextIO

from csi.units import format_size

_PROGRESS_EVERY: Final = 2.0
_INDENT: Final = " " * 6
_BOLD: Final = "1"
_GREEN: Final = "32"
_DIM: Final = "2"


class DemoError(Exception):
    """Something did not come out as it should; ``str()`` is one line for a user."""


@dataclass(frozen=True)
class Space:
    """What the pool holds at one moment."""

    data: int
    """Bytes that volumes and snapshots take."""
    volumes: int
    snapshots: int
    deferred: int


class Account:
    """Writes plain lines of at most 80 columns, in colours only on a terminal."""

    def __init__(self, steps: int, out: TextIO | None = None) -> None:
        self._steps = steps
        self._out = out or sys.stdout
        self._step = 0
        self._begun = self._said = time.monotonic()
        self._colours = self._out.isatty() and "NO_COLOR" not in os.environ and os.environ.get("TERM") != "dumb"
        self._space: Space | None = None
        self.measure: Callable[[], Space] | None = None
        """Reads the pool's space; set as soon as there is one."""
        self.checks = 0

    @property
    def elapsed(self) -> float:
        """Seconds since the beginning."""
        return time.monotonic() - self._begun

    @contextmanager
    def step(self, title: str) -> Iterator[None]:
        """Head a step, and close it with its time and the pool's space, if it did not fail."""
        self._step += 1
        begun = time.monotonic()
        self._write("")
        self._write(self._paint(_BOLD, f"[{self._step}/{self._steps}] {title}"))
        yield
        line = f"{time.monotonic() - begun:.1f} s"
        if self.measure is not None:
            before, self._space = self._space, self.measure()
            line += f"; pool: {_describe(self._space, before)}"
        self.say(line, _DIM)

    def say(self, text: str, colour: str = "") -> None:
        """Write a line of the present step."""
        self._write(self._paint(colour, _INDENT + text))

    def progress(self, text: str) -> None:
        """Write a line, unless one was written within the last two seconds."""
        if time.monotonic() - self._said >= _PROGRESS_EVERY:
            self.say(text)

    def check(self, fact: bool, text: str) -> None:  # noqa: FBT001 - the fact is what is checked
        """Write that ``text`` is so. Raise DemoError, which says it, if it is not."""
        if not fact:
            message = f"this is not so: {text}"
            raise DemoError(message)
        self.checks += 1
        self.say(f"ok: {text}", _GREEN)

    def _write(self, line: str) -> None:
        self._said = time.monotonic()
        print(line, file=self._out, flush=True)

    def _paint(self, colour: str, text: str) -> str:
        return f"\x1b[{colour}m{text}\x1b[0m" if self._colours and colour else text


def _describe(now: Space, before: Space | None) -> str:
    counts = f"{counted(now.volumes, 'volume')}, {counted(now.snapshots, 'snapshot')}"
    if before is None:
        return f"{format_size(now.data)} data, {counts}"
    change = now.data - before.data
    return f"{format_size(now.data)} data ({'+' if change >= 0 else '-'}{format_size(abs(change))}), {counts}"


def counted(number: int, noun: str) -> str:
    """Return ``1 volume``, ``2 volumes``."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
