# SPDX-License-Identifier: Apache-2.0
"""Compare the channels of one machine or site with those over sites: rank, distance, and a guess why they differ."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np
from numpy.typing import NDArray

from ..system.structs import known
from . import units
from .histogram import FINEST, TAIL
from .over_sites import HIGH, LOW, MIDDLE, Summary
from .units import Others, Three

FENCE = 1.5  # spans of the published medians
UNLIKE = 5.0  # by which factor a spread may differ from the usual one before it is said
FACTOR = 10.0  # below a tenth of what is usual, a median is far from it
SWAPPED = "as {} is at the others, and the other way round: are the tags swapped?"


@known
class Own(msgspec.Struct, frozen=True):
    """A channel of one machine or site."""

    low: float  # quantile 10 %
    middle: float
    high: float  # 90 %
    constant: bool = False

    @classmethod
    def of(cls, values: NDArray[np.float64]) -> Own:
        """Describe a channel's finite values (n,), of which there is at least one, in one sort."""
        ordered = np.sort(values)
        last = len(ordered) - 1
        low, middle, high = (float(ordered[round(q * last)]) for q in (LOW, MIDDLE, HIGH))
        first, most = float(ordered[round(TAIL * last)]), float(ordered[round((1 - TAIL) * last)])
        return cls(low, middle, high, constant=most - first <= max(abs(first), abs(most)) * 2.0**FINEST)

    @property
    def three(self) -> Three:
        """The quantiles."""
        return self.low, self.middle, self.high


@known
class Difference(msgspec.Struct, frozen=True):
    """A channel beside the same channel over sites. Without others, only what is one's own is known."""

    channel: str
    unit: str
    own: Own | None
    usual: Three | None = None  # quantiles of the site in the middle
    others: int = 0  # sites, without this one
    below: int = 0  # of them, at least so many have a lower median
    above: int = 0  # a higher one
    differs: bool = False  # its median is far from those of the others (`_is_outlying`)
    distance: float = 0.0  # of the medians, in widths of the others' range
    hint: str = ""  # what may be the reason

    @property
    def stands_out(self) -> bool:
        """Whether the channel differs from the others', or there is a guess why it is far from them."""
        return self.differs or bool(self.hint)


def compare(
    names: Sequence[str], given: Sequence[str], own: Sequence[Own | None], over: Sequence[Summary | None]
) -> list[Difference]:
    """Compare channel by channel, those that differ most first. given: units on the model card."""
    found = [_one(n, u, o, s) for n, u, o, s in zip(names, given, own, over, strict=True)]
    return sorted(_with_swaps(found, over), key=lambda d: (not d.stands_out, -d.distance))


def _one(name: str, unit: str, own: Own | None, over: Summary | None) -> Difference:
    if over is None or own is None:
        usual = None if over is None else over.usual
        return Difference(name, unit, own, usual, 0 if over is None else over.sites - 1)
    usual, others = over.usual, over.sites - 1
    below, above = _ranked(own, over)
    return Difference(
        name,
        unit,
        own,
        usual,
        others,
        min(below, others),
        min(above, others),
        differs=_is_outlying(own.middle, over),
        distance=_distance(own.three, usual),
        hint=_hint(own, over, unit),
    )


def _ranked(own: Own, over: Summary) -> tuple[int, int]:
    """At least how many sites have a lower median, and how many a higher one; medians in one bin are equal."""
    place, known = round(own.middle / over.width), list(zip(over.ranks, over.medians, strict=True))
    below = [rank for rank, median in known if median < place]
    above = [over.sites + 1 - rank for rank, median in known if median > place]
    return max(below, default=0), max(above, default=0)


def _others(over: Summary) -> Others:
    medians = [place * over.width for place in over.medians]
    return Others(min(medians), over.usual[1], max(medians), over.usual_spread)


def _is_outlying(middle: float, over: Summary) -> bool:
    """Whether a median is far from the published ones: by more than so many times their span, or by a factor of ten.

    Among machines that differ a little one is always the highest. The fence is Tukey's (1977), over order statistics.
    """
    others = _others(over)
    fence = max(FENCE * (others.highest - others.lowest), others.spread / 2, over.width)
    if not others.lowest - fence <= middle <= others.highest + fence:
        return True
    near = min(abs(others.lowest), abs(others.highest))
    one_sign = others.lowest * others.highest > 0
    return one_sign and near - abs(middle) > max(others.spread, over.width) and abs(middle) < near / FACTOR


def _hint(own: Own, over: Summary, unit: str) -> str:
    """What may be the reason for a difference, or what is unlike in how much it varies; empty for neither."""
    guessed = units.guess(own.three, _others(over), unit) if _is_outlying(own.middle, over) else None
    return guessed or _spread_words(own, over.usual_spread)


def _spread_words(own: Own, usual: float) -> str:
    """What is to be said of a spread unlike the usual one; empty for one like it."""
    spread = own.high - own.low
    if not usual:
        return ""
    if own.constant:
        return units.CONSTANT
    if spread > UNLIKE * usual:
        return f"varies {spread / usual:.2g} times as much as at the others"
    return f"varies {usual / spread:.2g} times less than at the others" if 0 < spread < usual / UNLIKE else ""


def _distance(own: Three, usual: Three) -> float:
    low, middle, high = usual
    return abs(own[1] - middle) / max(high - low, 1e-3 * abs(middle), 1e-30)


def _with_swaps(found: list[Difference], over: Sequence[Summary | None]) -> list[Difference]:
    """Say where two channels that differ would each be the other at the others."""
    far = [(d, d.own, s) for d, s in zip(found, over, strict=True) if d.own and s and d.differs]
    swapped = {}
    for one, own, theirs in far:
        for other, its_own, its in far:
            if one is not other and units.fits(own.three, _others(its)) and units.fits(its_own.three, _others(theirs)):
                swapped[one.channel] = SWAPPED.format(other.channel)
    return [msgspec.structs.replace(d, hint=swapped.get(d.channel, d.hint)) for d in found]
