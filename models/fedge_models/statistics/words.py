# SPDX-License-Identifier: Apache-2.0
"""A comparison in a line for people, the same at the gateway and at the aggregator."""

from __future__ import annotations

from collections.abc import Sequence

from ..system.text import counted, printable
from .comparison import Difference
from .units import Three

BARS = "▁▂▃▄▅▆▇█"


def line(difference: Difference) -> str:
    """ "current_A: 12.3 (10.1–15.0) A; others 8.0–11.0 over 9 sites: higher than 9 of 9"."""
    unit = f" {printable(difference.unit)}" if difference.unit else ""
    own = "no values yet" if difference.own is None else f"{quantiles(difference.own.three)}{unit}"
    name = printable(difference.channel)
    if difference.usual is None:
        return f"{name}: {own}; nothing of other sites yet"
    low, _, high = difference.usual
    others = f"others {number(low)}–{number(high)} over {counted(difference.others, 'site')}"
    return f"{name}: {own}; {others}{_rank(difference)}"


def quantiles(three: Three) -> str:
    """The median, and the quantiles 10 % and 90 %."""
    low, middle, high = three
    return f"{number(middle)} ({number(low)}–{number(high)})"


def number(value: float) -> str:
    """Three digits, and no exponent where that is short."""
    return f"{value:,.0f}" if 1000 <= abs(value) < 1e7 else f"{value:.3g}"


def bars(shares: Sequence[float]) -> str:
    """A histogram in a line: a character for each bin, as high as its share of the highest."""
    top = max(shares, default=0.0) or 1.0
    return "".join(" " if not s else BARS[min(len(BARS) - 1, int(s / top * len(BARS)))] for s in shares)


def rank(difference: Difference) -> str:
    """Among how many sites it is where; empty where that is not known."""
    below, above, others = difference.below, difference.above, difference.others
    if not others or difference.own is None:
        return ""
    place = f"{'higher' if below > above else 'lower'} than {max(below, above)} of {others}"
    if difference.differs:
        return f"{place}, and far from them"
    if not min(below, above) and max(below, above) > others / 2:
        return f"{place}, but near them"
    return f"like the others (higher than {below}, lower than {above} of {others})"


def _rank(difference: Difference) -> str:
    said = [text for text in (rank(difference), difference.hint) if text]
    return f": {'; '.join(said)}" if said else ""
