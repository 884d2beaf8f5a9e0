# SPDX-License-Identifier: Apache-2.0
"""Say in words how an input column differs from what was learnt: it moved, spreads otherwise, or is constant."""

from __future__ import annotations

import math
from typing import NamedTuple

from ..windows.summary import Column, Figures


class Change(NamedTuple):
    """What is different in one column."""

    channel: str
    kind: str  # "moved", "spread", "constant"
    far: float  # moved: in usual spreads; spread, constant: logarithm of how many times as wide
    text: str


def of_change(column: Column, kind: str, far: float, now: Figures, low: Figures, high: Figures) -> Change:
    """Describe a change; now, low, high: (2,) location and logarithm of the spread, of the block and as learnt."""
    value, learnt = f"{now[0]:.4g}", f"{low[0]:.4g} to {high[0]:.4g}"
    if kind == "constant":
        text = f"{column} is constant at {value}"
    elif kind == "moved":
        text = f"{column} moved to {value}, learnt were {learnt}"
    else:
        nearest = low[1] if far < 0 else high[1]
        times = math.exp(min(50.0, float(now[1] - nearest)))
        text = f"{column} spreads {times:.2g} times as wide as learnt"
    return Change(column.channel, kind, round(far, 3) + 0.0, text)
