# SPDX-License-Identifier: Apache-2.0
"""Lines over a common x axis, with their names at their ends, base lines and shaded spans."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape

from .scale import BaseLine, Scale, apart, scale, text

HEIGHT = 240  # pixels of the drawing, without labels
COLOURS = 5  # of the style sheet
LETTER = 6.6  # pixels of a letter, about
MOST_NAME = 190  # pixels beside the drawing for names
APART = 15  # pixels between two names


@dataclass
class Line:
    """One line of a chart."""

    name: str
    points: Sequence[tuple[float, float]]
    dashed: bool = False


@dataclass
class LineChart:
    """A chart of lines; `bands` are shaded spans of x, `baselines` are drawn across."""

    title: str
    x: str  # label of the axis, with its unit
    y: str
    lines: Sequence[Line]
    bands: Sequence[tuple[float, float]] = field(default_factory=list)
    baselines: Sequence[BaseLine] = ()
    caption: str = ""
    zero: bool = False  # whether the y axis begins at 0
    whole: bool = False  # whether x counts something

    def html(self) -> str:
        """The figure; empty without a point."""
        points = [p for line in self.lines for p in line.points if all(map(math.isfinite, p))]
        if not points:
            return ""
        xs = scale([p[0] for p in points], whole=True) if self.whole else _tight([p[0] for p in points])
        base = [b for b in self.baselines if math.isfinite(b.value)]
        ys = scale([*(p[1] for p in points), *(b.value for b in base)], self.zero)
        left = max(LETTER * max(len(ys.label(t)) for t in ys.ticks) + 10, 30)
        right = min(MOST_NAME, LETTER * max(map(len, [*(n.name for n in self.lines), *(b.name for b in base)])) + 12)
        parts = [_grid(xs, ys), *(_band(xs, *band) for band in self.bands), *(_base(ys, b) for b in base)]
        parts += [_line(xs, ys, line, i) for i, line in enumerate(self.lines)]
        parts += [_names(ys, self.lines, base), _ticks(xs, ys), text("50%", HEIGHT + 34, self.x, "axis", "middle")]
        style = f"--left:{left:.0f}px;--right:{right:.0f}px;height:{HEIGHT}px"
        caption = f"<figcaption>{escape(self.caption)}</figcaption>" if self.caption else ""
        return (
            f"<figure><h2>{escape(self.title)}</h2><p class='unit'>{escape(self.y)}</p>"
            f"<svg class='chart lines' role='img' aria-label='{escape(self.title)}' style='{style}'>"
            f"{''.join(parts)}</svg>{_legend(self.lines, base)}{caption}</figure>"
        )


def _tight(values: Sequence[float]) -> Scale:
    """An axis from the first to the last value, with round ticks between."""
    rounded = scale(values)
    low, high = min(values), max(values)
    if low == high:
        return rounded
    return Scale(low, high, tuple(t for t in rounded.ticks if low <= t <= high), rounded.digits)


def _y(ys: Scale, value: float) -> float:
    return HEIGHT * (1 - ys.percent(value) / 100)


def _grid(xs: Scale, ys: Scale) -> str:
    lines = [f"<line class='grid' x1='0' x2='100%' y1='{y:.1f}' y2='{y:.1f}'/>" for y in (_y(ys, t) for t in ys.ticks)]
    marks = [
        f"<line class='axis' x1='{xs.percent(t)}%' x2='{xs.percent(t)}%' y1='{HEIGHT}' y2='{HEIGHT + 5}'/>"
        for t in xs.ticks
    ]
    return "".join([*lines, f"<line class='axis' x1='0' x2='100%' y1='{HEIGHT}' y2='{HEIGHT}'/>", *marks])


def _ticks(xs: Scale, ys: Scale) -> str:
    across = [text(f"{xs.percent(t)}%", HEIGHT + 18, xs.label(t), "tick", "middle") for t in xs.ticks]
    upwards = [text("-6", _y(ys, t) + 4, ys.label(t), "tick", "end") for t in ys.ticks]
    return "".join([*across, *upwards])


def _band(xs: Scale, start: float, stop: float) -> str:
    left, right = xs.percent(start), xs.percent(stop)
    if right <= left:
        return ""
    return f"<rect class='band' x='{left}%' width='{right - left:.2f}%' y='0' height='{HEIGHT}'/>"


def _base(ys: Scale, base: BaseLine) -> str:
    y = _y(ys, base.value)
    return f"<line class='base' x1='0' x2='100%' y1='{y:.1f}' y2='{y:.1f}'><title>{escape(base.name)}</title></line>"


def _line(xs: Scale, ys: Scale, line: Line, number: int) -> str:
    """The line in a drawing of its own that is stretched to the chart's width."""
    good = [(x, y) for x, y in line.points if math.isfinite(x) and math.isfinite(y)]
    points = " ".join(f"{xs.percent(x)},{100 - ys.percent(y):.2f}" for x, y in good)
    dash = " dashed" if line.dashed else ""
    return (
        f"<svg viewBox='0 0 100 100' preserveAspectRatio='none' width='100%' height='{HEIGHT}'>"
        f"<polyline class='c{number % COLOURS}{dash}' points='{points}'/></svg>"
    )


def _names(ys: Scale, lines: Sequence[Line], baselines: Sequence[BaseLine]) -> str:
    """The name of each line where it ends, moved apart where lines end at the same height."""
    named = [(line.name, line.points[-1][1], f"c{i % COLOURS}") for i, line in enumerate(lines) if line.points]
    named += [(base.name, base.value, "base") for base in baselines]
    places = apart([_y(ys, value) + 4 for _, value, _ in named], APART, HEIGHT + 4)
    return "".join(
        text("100%", y, name, f"name {kind}").replace("<text ", "<text dx='8' ", 1)
        for y, (name, _, kind) in zip(places, named, strict=True)
    )


def _legend(lines: Sequence[Line], baselines: Sequence[BaseLine]) -> str:
    """The names below the chart, where the page is too narrow for names beside it."""
    keys = [
        f"<span class='c{i % COLOURS}{' dashed' if line.dashed else ''}'><i></i>{escape(line.name)}</span>"
        for i, line in enumerate(lines)
    ]
    keys += [f"<span class='dotted'><i></i>{escape(base.name)}: {base.value:.3g}</span>" for base in baselines]
    return f"<p class='legend narrow'>{''.join(keys)}</p>"
