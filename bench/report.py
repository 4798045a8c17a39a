"""What is said of the measurements: a table while they are made, ``name value`` lines, a file for programs."""

import json
import os
import platform
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, TextIO

from bench.goals import GOALS
from bench.sample import Sample

_MARKS: Final = {True: "ok", False: "MISSED", None: ""}
_HEAD: Final = ("figure", "value", "goal", "", "from (medians, and how many)")

Point = tuple[int, float]
"""How many volumes, and the seconds that one more took."""


@dataclass(frozen=True)
class Figure:
    """One value, and what it was made from."""

    name: str
    value: float
    parts: Mapping[str, Sample]
    note: str = ""

    @property
    def row(self) -> tuple[str, str, str, str, str]:
        """The line of the table: name, value, goal, whether it is met, where it comes from."""
        goal = GOALS[self.name]
        made = [f"{what} {sample}" for what, sample in self.parts.items()]
        came = "; ".join([*made, self.note] if self.note else made)
        return self.name, rounded(self.value), str(goal), _MARKS[goal.met(self.value)], came


@dataclass
class Report:
    """Takes figures and shows each at once on ``out``, with what is being done on ``progress``."""

    out: TextIO = field(default_factory=lambda: sys.stdout)
    progress: TextIO = field(default_factory=lambda: sys.stderr)
    figures: list[Figure] = field(default_factory=list)
    curves: dict[str, list[Point]] = field(default_factory=dict)

    def tell(self, what: str) -> None:
        """Say what is being done."""
        self.progress.write(f"| {what}\n")
        self.progress.flush()

    def add(self, name: str, value: float, note: str = "", **parts: Sample) -> None:
        """Take a figure. What it is and should be is in bench/goals.py; KeyError for one that is not there."""
        figure = Figure(name, value, parts, note)
        if not self.figures:
            self.out.write(line(_HEAD))
        self.out.write(line(figure.row))
        self.out.flush()
        self.figures.append(figure)

    def point(self, curve: str, count: int, seconds: float) -> None:
        """Take a point of a curve."""
        self.curves.setdefault(curve, []).append((count, seconds))

    def values(self) -> str:
        """Return the figures as lines ``name value``."""
        return "".join(f"{figure.name} {rounded(figure.value)}\n" for figure in self.figures)

    def document(self, **run: object) -> dict[str, Any]:
        """Return everything, for a file; ``run`` says how it was run."""
        return {
            "run": {
                "kernel": platform.release(),
                "machine": platform.machine(),
                "processors": os.cpu_count(),
                "python": platform.python_version(),
                **run,
            },
            "figures": {
                each.name: {
                    "value": each.value,
                    "goal": str(GOALS[each.name]),
                    "met": GOALS[each.name].met(each.value),
                    "meaning": GOALS[each.name].meaning,
                    "note": each.note,
                    "samples": {what: sample.summary() for what, sample in each.parts.items()},
                }
                for each in self.figures
            },
            "curves": {
                name: [{"volumes": count, "ms": round(seconds * 1000, 4)} for count, seconds in points]
                for name, points in self.curves.items()
            },
        }

    def write(self, file: Path, **run: object) -> None:
        """Write everything to ``file`` as JSON."""
        file.write_text(json.dumps(self.document(**run), indent=2, ensure_ascii=False) + "\n")


def rounded(value: float) -> str:
    """Write a value with three digits that mean something: ``412``, ``2.13``, ``0.0321``."""
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"  # noqa: PLR2004 - more digits are not to be cut


def line(cells: Sequence[str]) -> str:
    """Return one line of the table."""
    widths = (24, 8, 8, 7, 0)
    return "  ".join(f"{cell:<{width}}" for cell, width in zip(cells, widths, strict=True)).rstrip() + "\n"
