# SPDX-License-Identifier: Apache-2.0
"""Summarise one channel over sites: each counts once, and none shows.

What comes from one site is its histogram. What is made of them is robust: medians and order statistics over the
sites' quantiles, without the most extreme sites, rounded to bins as wide as the sites' own. A hostile site moves an
order statistic by one rank, however large its values are, and a third of the sites cannot choose the bins. A bin of
the joint histogram counts at least `LEAST_SITES` sites. Sorted values without names, with the extremes left out, are
microaggregation's way to publish (Domingo-Ferrer, Mateo-Sanz 2002, doi:10.1109/69.979982), with order statistics in
the place of means.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Annotated

import msgspec
import numpy as np
from msgspec import Meta
from numpy.typing import NDArray

from ..system.structs import known
from . import histogram
from .histogram import BINS, EXPONENTS, FURTHEST, Histogram

LEAST_SITES = 3  # below, a median of sites and one's own value would show another's
MOST_KNOTS = 9
LOW, MIDDLE, HIGH = 0.1, 0.5, 0.9  # quantiles of a site

Place = Annotated[int, Meta(ge=-4 * FURTHEST, le=4 * FURTHEST)]


@known
class Summary(msgspec.Struct, array_like=True, frozen=True, forbid_unknown_fields=True):
    """One channel over sites. All places are multiples of ``2 ** exponent``."""

    sites: Annotated[int, Meta(ge=LEAST_SITES, le=2**20)]
    exponent: Annotated[int, Meta(ge=EXPONENTS[0], le=EXPONENTS[1])]
    low: Place  # median over sites of their 10 % quantiles
    high: Place  # of their 90 % quantiles
    medians: Annotated[tuple[Place, ...], Meta(min_length=1, max_length=MOST_KNOTS)]  # sites' medians, see `ranks`
    spread: Annotated[int, Meta(ge=-1000, le=1000)] | None  # median over sites, 8 * log2; None: they do not vary
    joint: Histogram  # mean over sites

    @property
    def width(self) -> float:
        """What a step of a place is."""
        return 2.0**self.exponent

    @property
    def usual(self) -> tuple[float, float, float]:
        """Quantiles 10 %, 50 % and 90 % of the site in the middle."""
        middle = (self.medians[(len(self.medians) - 1) // 2] + self.medians[len(self.medians) // 2]) / 2
        return self.low * self.width, middle * self.width, self.high * self.width

    @property
    def usual_spread(self) -> float:
        """From the 10 % to the 90 % quantile at the site in the middle."""
        return 0.0 if self.spread is None else 2.0 ** (self.spread / 8)

    @property
    def ranks(self) -> list[int]:
        """Rank of each of `medians` among all sites, from 1."""
        return ranks(self.sites)[: len(self.medians)]


def ranks(sites: int) -> list[int]:
    """Which ranks of the sorted medians of so many sites are published: not the outermost tenth, at least one each."""
    left = max(1, sites // 10)
    inner = list(range(left + 1, sites - left + 1))
    if len(inner) <= MOST_KNOTS:
        return inner
    return [inner[round(i * (len(inner) - 1) / (MOST_KNOTS - 1))] for i in range(MOST_KNOTS)]


def summarise(found: Sequence[Histogram]) -> Summary | None:
    """Summarise a channel over the sites whose histograms these are.

    None for fewer than `LEAST_SITES`, and where their range is too wide for any bins, as hostile sites can make it.
    """
    sites = len(found)
    if sites < LEAST_SITES:
        return None
    quantiles = np.array([[h.quantile(q) for q in (LOW, MIDDLE, HIGH)] for h in found])
    ordered = np.sort(quantiles, axis=0)
    left = max(1, sites // 3)
    bottom, top = float(ordered[left, 0]), float(ordered[sites - 1 - left, 2])
    exponent = _exponent(min(bottom, top), max(bottom, top), found)
    if exponent > EXPONENTS[1]:
        return None
    width = 2.0**exponent
    medians = [_place(float(ordered[rank - 1, 1]), width) for rank in ranks(sites)]
    low, high = (_place(float(np.median(quantiles[:, i])), width) for i in (0, 2))
    joint = _joint(found, exponent, min(bottom, top), max(bottom, top))
    return Summary(sites, exponent, low, high, tuple(medians), _spread(found, quantiles), joint)


def _spread(found: Sequence[Histogram], quantiles: NDArray[np.float64]) -> int | None:
    """The median spread of the sites, those that are constant counting as 0."""
    spreads = [0.0 if h.is_constant else high - low for h, (low, _, high) in zip(found, quantiles, strict=True)]
    middle = float(np.median(spreads))
    return None if middle <= 0 else int(min(max(round(8 * math.log2(middle)), -1000), 1000))


def _exponent(bottom: float, top: float, found: Sequence[Histogram]) -> int:
    """The width, as a power of two: no finer than that of the site in the middle, nor than the range asks for."""
    of_sites = sorted(h.exponent for h in found)[len(found) // 2]
    level = max(abs(bottom), abs(top)) / FURTHEST
    wanted = [math.ceil(math.log2(w)) for w in ((top - bottom) / BINS, level) if w > 0]
    return max(of_sites, *wanted, EXPONENTS[0])


def _place(value: float, width: float) -> int:
    return int(min(max(round(value / width), -4 * FURTHEST), 4 * FURTHEST))


def _joint(found: Sequence[Histogram], exponent: int, bottom: float, top: float) -> Histogram:
    """The mean of the sites' shares in bins from `bottom` to `top`, pooled where fewer than three sites have any."""
    width = 2.0**exponent
    first, last = math.floor(bottom / width), math.floor(top / width)
    counts = np.zeros((len(found), last - first + 1))
    for row, one in zip(counts, found, strict=True):
        middles = (one.first + np.arange(len(one.codes)) + 0.5) * one.width
        at = np.clip(np.floor(np.clip(middles, bottom, top) / width), first, last).astype(np.int64) - first
        np.add.at(row, at, one.shares)
    shared = histogram.pooled(counts, lambda bin_: bool(np.count_nonzero(bin_) >= LEAST_SITES))
    return histogram.packed(exponent, first, shared.mean(axis=0))
