# SPDX-License-Identifier: Apache-2.0
"""Rows of dots on a common x axis: what each site or rule reaches, how far that is from a base, and its error."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Literal

from .scale import BaseLine, Scale, scale, text

ROW = 44  # pixels
TOP = 22  # for the names of base lines
MOST_ERROR = 0.5  # how far intervals stretch the axis beyond the dots, in spans of the dots
Shape = Literal["full", "open", "tick", "cross"]


@dataclass(frozen=True)
class Dot:
    """One value of a row; name: what the legend calls values like it."""

    name: str
    value: float
    shape: Shape = "full"
    hint: str = ""  # shown when the pointer rests on it


@dataclass(frozen=True)
class DotRow:
    """A row: its name, its dots, and a span between two values."""

    name: str
    dots: Sequence[Dot]
    remark: str = ""  # at the right, such as a difference
    span: tuple[float, float] | None = None
    kind: Literal["", "good", "bad"] = ""  # how the span is coloured
    error: tuple[float, float] | None = None  # an interval


@dataclass
class DotChart:
    """A chart of rows."""

    title: str
    x: str  # label of the axis, with its unit
    rows: Sequence[DotRow]
    baselines: Sequence[BaseLine] = ()
    caption: str = ""
    span: float = 0.0  # the axis covers so much at least

    def html(self) -> str:
        """The figure; empty without a value."""
        base = [b for b in self.baselines if math.isfinite(b.value)]
        values = [d.value for row in self.rows for d in row.dots] + [b.value for b in base]
        if not any(map(math.isfinite, values)):
            return ""
        xs, bottom = scale([*values, *self._ends(values)], span=self.span), TOP + ROW * len(self.rows)
        parts = [_grid(xs, bottom), *_base_lines(xs, base, bottom)]
        parts += [_row(xs, row, TOP + ROW * k) for k, row in enumerate(self.rows)]
        parts.append(text("50%", bottom + 36, self.x, "axis", "middle"))
        caption = f"<figcaption>{escape(self.caption)}</figcaption>" if self.caption else ""
        return (
            f"<figure><h2>{escape(self.title)}</h2>{_legend(self.rows)}"
            f"<svg class='chart dots' role='img' aria-label='{escape(self.title)}' style='height:{bottom}px'>"
            f"{''.join(parts)}</svg>{caption}</figure>"
        )

    def _ends(self, values: Sequence[float]) -> list[float]:
        """Ends of the intervals; one that is far wider than all the dots together does not stretch the axis."""
        known = [v for v in values if math.isfinite(v)]
        room = MOST_ERROR * max(max(known) - min(known), self.span)
        low, high = min(known) - room, max(known) + room
        return [min(high, max(low, v)) for row in self.rows for v in row.error or () if math.isfinite(v)]


def _grid(xs: Scale, bottom: int) -> str:
    lines = [
        f"<line class='grid' x1='{xs.percent(t)}%' x2='{xs.percent(t)}%' y1='{TOP}' y2='{bottom}'/>"
        + text(f"{xs.percent(t)}%", bottom + 18, xs.label(t), "tick", "middle")
        for t in xs.ticks
    ]
    return "".join([*lines, f"<line class='axis' x1='0' x2='100%' y1='{bottom}' y2='{bottom}'/>"])


def _base_lines(xs: Scale, baselines: Sequence[BaseLine], bottom: int) -> list[str]:
    """Base lines with names above; a name goes to the side that has room, and every second one a line higher."""
    found = []
    for k, base in enumerate(sorted(baselines, key=lambda b: b.value)):
        x = xs.percent(base.value)
        anchor = "end" if x > 50 else "start"
        found.append(
            f"<line class='base' x1='{x}%' x2='{x}%' y1='{TOP - 8}' y2='{bottom}'/>"
            + text(f"{x}%", TOP - 11 - 13 * (k % 2), base.name, "base", anchor)
        )
    return found


def _row(xs: Scale, row: DotRow, top: int) -> str:
    y = top + 31
    parts = [text("0", top + 15, row.name, "row"), text("100%", top + 15, row.remark, f"remark {row.kind}", "end")]
    if row.span is not None and all(map(math.isfinite, row.span)):
        a, b = (xs.percent(v) for v in row.span)
        parts.append(f"<line class='span {row.kind}' x1='{a}%' x2='{b}%' y1='{y}' y2='{y}'/>")
    if row.error is not None and all(map(math.isfinite, row.error)):
        a, b = (xs.percent(v) for v in row.error)
        parts.append(f"<line class='error' x1='{a}%' x2='{b}%' y1='{y}' y2='{y}'/>")
        ends = [xs.percent(v) for v in row.error if xs.low <= v <= xs.high]
        parts += [f"<line class='error' x1='{v}%' x2='{v}%' y1='{y - 4}' y2='{y + 4}'/>" for v in ends]
    parts += [_dot(xs, dot, y) for dot in row.dots if math.isfinite(dot.value)]
    return "".join(parts)


def _dot(xs: Scale, dot: Dot, y: int) -> str:
    x = xs.percent(dot.value)
    title = f"<title>{escape(dot.hint or dot.name)}</title>"
    if dot.shape == "tick":
        return f"<line class='tickmark' x1='{x}%' x2='{x}%' y1='{y - 8}' y2='{y + 8}'>{title}</line>"
    if dot.shape == "cross":
        arms = "".join(f"<path class='cross' d='M-5 {-5 * s}L5 {5 * s}'/>" for s in (1, -1))
        return f"<svg x='{x}%' y='{y}' class='mark'>{arms}{title}</svg>"
    return f"<circle class='{dot.shape}' cx='{x}%' cy='{y}' r='6'>{title}</circle>"


def _legend(rows: Sequence[DotRow]) -> str:
    seen = {dot.name: dot.shape for row in rows for dot in row.dots}
    marks = {
        "full": "<circle class='full' cx='8' cy='8' r='5.5'/>",
        "open": "<circle class='open' cx='8' cy='8' r='5.5'/>",
        "tick": "<line class='tickmark' x1='8' x2='8' y1='1' y2='15'/>",
        "cross": "<path class='cross' d='M3 3L13 13M3 13L13 3'/>",
    }
    keys = [f"<span><svg width='16' height='16'>{marks[s]}</svg>{escape(name)}</span>" for name, s in seen.items()]
    return f"<p class='legend'>{''.join(keys)}</p>"
