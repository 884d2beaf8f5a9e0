# SPDX-License-Identifier: Apache-2.0
"""An axis: its range, round ticks, and where a value lies on it as a percentage. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from html import escape
from itertools import pairwise

TICKS = 5  # about so many
LEAST_SPAN = 1e-9


@dataclass(frozen=True)
class BaseLine:
    """A value to compare with, drawn across the chart with its name."""

    name: str
    value: float


@dataclass(frozen=True)
class Scale:
    """An axis from `low` to `high`, with ticks at round values."""

    low: float
    high: float
    ticks: tuple[float, ...]
    digits: int

    def percent(self, value: float) -> float:
        """Where a value lies, from 0 to 100; values beyond the axis lie on its ends."""
        share = (value - self.low) / (self.high - self.low)
        return round(100 * min(1.0, max(0.0, share)), 2)

    def label(self, tick: float) -> str:
        """A tick's value as text."""
        return f"{tick + 0.0:,.{self.digits}f}"


def scale(values: Iterable[float], zero: bool = False, whole: bool = False, span: float = 0.0) -> Scale:
    """Make an axis for finite values, with ends at round ticks.

    zero: it begins at 0 at the latest; whole: ticks at whole numbers; span: it covers so much at least.
    """
    found = [v for v in values if math.isfinite(v)] or [0.0, 1.0]
    low, high = min(found), max(found)
    if zero:
        low, high = min(low, 0.0), max(high, 0.0)
    if (missing := max(span, LEAST_SPAN, 1e-6 * abs(high)) - (high - low)) > 0:
        low, high = low - missing / 2, high + missing / 2
    step = _round_step((high - low) / TICKS)
    if whole:
        step = max(1.0, round(step))
        first, last = low, high
    else:
        first, last = math.floor(low / step + 1e-9) * step, math.ceil(high / step - 1e-9) * step
    start = math.ceil(first / step - 1e-9)
    ticks = tuple(step * k for k in range(start, math.floor(last / step + 1e-9) + 1))
    return Scale(first, last, ticks, max(0, -math.floor(math.log10(step) + 1e-9)))


def _round_step(rough: float) -> float:
    """The next of 1, 2, 5, 10, … times a power of ten."""
    power = 10.0 ** math.floor(math.log10(rough))
    return next(m * power for m in (1, 2, 5, 10) if rough <= m * power * (1 + 1e-9))


def text(x: str, y: float, words: str, kind: str = "", anchor: str = "start") -> str:
    """An SVG text; x in per cent or pixels, y in pixels."""
    named = f" class='{kind}'" if kind else ""
    return f"<text x='{x}' y='{y:.1f}' text-anchor='{anchor}'{named}>{escape(words)}</text>"


def apart(places: list[float], least: float, bottom: float) -> list[float]:
    """Move places (pixels) down, or up from the bottom, so that neighbours are `least` apart."""
    order = sorted(range(len(places)), key=places.__getitem__)
    moved = list(places)
    for before, at in pairwise(order):
        moved[at] = max(moved[at], moved[before] + least)
    for at in reversed(order):
        moved[at] = min(moved[at], bottom)
        bottom = moved[at] - least
    return moved
