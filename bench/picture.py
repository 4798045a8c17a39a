"""The curves as a picture: an SVG, both axes logarithmic."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final
from xml.sax.saxutils import escape

from bench.report import Point

_WIDTH, _HEIGHT = 760, 440
_LEFT, _RIGHT, _TOP, _BOTTOM = 70, 190, 50, 60
_COLOURS: Final = ("#1f5fa8", "#2a9d5c", "#c0392b", "#8e44ad", "#b7791f")
_FONT: Final = 'font-family="sans-serif" font-size="13"'


def draw(title: str, curves: Mapping[str, Sequence[Point]]) -> str:
    """Return the picture of how long one more volume takes by how many there are. At least one curve has a point."""
    points = [point for curve in curves.values() for point in curve]
    across = _Axis([count for count, _ in points], _LEFT, _WIDTH - _RIGHT)
    up = _Axis([seconds * 1000 for _, seconds in points], _HEIGHT - _BOTTOM, _TOP)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" {_FONT}>',
        f'<rect width="{_WIDTH}" height="{_HEIGHT}" fill="white"/>',
        f'<text x="{_LEFT}" y="26" font-size="16">{escape(title)}</text>',
        *(_line(up.start, up.end, at=across.place(tick), upright=True) for tick in across.ticks),
        *(_line(across.start, across.end, at=up.place(tick), upright=False) for tick in up.ticks),
        *(_text(across.place(tick), up.start + 20, f"{tick:,.0f}", "middle") for tick in across.ticks),
        *(_text(across.start - 8, up.place(tick) + 4, f"{tick:g}", "end") for tick in up.ticks),
        _text((across.start + across.end) / 2, _HEIGHT - 14, "volumes and snapshots in the pool", "middle"),
        _text(across.start, _TOP - 8, "ms", "end"),
    ]
    for number, (name, curve) in enumerate(curves.items()):
        colour = _COLOURS[number % len(_COLOURS)]
        places = [(across.place(count), up.place(seconds * 1000)) for count, seconds in curve]
        drawn = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
        parts.append(f'<polyline points="{drawn}" fill="none" stroke="{colour}" stroke-width="2"/>')
        parts += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3.5" fill="{colour}"/>' for x, y in places]
        # In a list of their own: two curves may end in one place.
        legend = _TOP + 20 + 22 * number
        parts.append(f'<rect x="{_WIDTH - _RIGHT + 20}" y="{legend - 9}" width="14" height="8" fill="{colour}"/>')
        parts.append(_text(_WIDTH - _RIGHT + 42, legend, name, "start"))
    return "\n".join([*parts, "</svg>", ""])


def write(file: Path, title: str, curves: Mapping[str, Sequence[Point]]) -> None:
    """Write the picture to ``file``."""
    file.write_text(draw(title, curves))


class _Axis:
    """From values to places, by their logarithms, over whole powers of ten."""

    def __init__(self, values: Sequence[float], start: float, end: float) -> None:
        self.start, self.end = start, end
        self._low = math.floor(math.log10(min(values)))
        self._high = max(math.ceil(math.log10(max(values))), self._low + 1)
        self.ticks = [10.0**power for power in range(self._low, self._high + 1)]

    def place(self, value: float) -> float:
        """Return where a value is drawn."""
        share = (math.log10(value) - self._low) / (self._high - self._low)
        return self.start + share * (self.end - self.start)


def _line(start: float, end: float, *, at: float, upright: bool) -> str:
    x1, y1, x2, y2 = (at, start, at, end) if upright else (start, at, end, at)
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="#dddddd"/>'


def _text(x: float, y: float, text: str, anchor: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'
