# SPDX-License-Identifier: Apache-2.0
"""A histogram of one channel as a quantile sketch: a few dozen bytes, mergeable, without single values or extremes.

Bins lie on a dyadic grid: their width is a power of two, and their edges are multiples of it. So sites need not agree
on a range: two bins of one width make one of the next, as in the exponential histograms of OpenTelemetry and the
uniform collapse of UDDSketch (Epicoco et al. 2020, doi:10.1109/ACCESS.2020.3015599). The width follows the spread of
the channel, so an offset (kelvin, absolute pressure) costs no resolution, as it would with logarithmic bins (DDSketch,
Masson et al. 2019, doi:10.14778/3352063.3352135).

What protects values: a bin counts at least `LEAST_COUNT` of them, the two outermost are open, and shares are rounded
to 1/255. The error of a quantile is one bin width beside an error in rank (`rank_error`).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Annotated

import msgspec
import numpy as np
from msgspec import Meta
from numpy.typing import NDArray

from ..system.structs import known

BINS = 24  # across the middle 96 % of the values
MOST_BINS = BINS + 2
LEAST_COUNT = 12  # values of a bin
LEAST_VALUES = 200  # of a histogram
TAIL = 0.02  # share of the values beyond each end of what bins resolve
FULL = 255  # codes of a histogram add up to this
FINEST = -14  # a bin is at least 2 ** this of the channel's level wide
FURTHEST = 2**24  # multiples of the width at which a bin may lie
EXPONENTS = (-100, 100)
LARGEST = 2.0**110  # values beyond count as this

Doubles = NDArray[np.float64]


@known
class Histogram(msgspec.Struct, array_like=True, frozen=True, forbid_unknown_fields=True):
    """Shares of values in consecutive bins of width ``2 ** exponent``; the two outermost bins are open."""

    exponent: Annotated[int, Meta(ge=EXPONENTS[0], le=EXPONENTS[1])]
    first: Annotated[int, Meta(ge=-FURTHEST, le=FURTHEST)]  # lower edge of the first bin, in widths
    codes: Annotated[bytes, Meta(min_length=1, max_length=MOST_BINS)]  # a bin each, share times about 255

    @property
    def width(self) -> float:
        """Width of a bin."""
        return 2.0**self.exponent

    @property
    def shares(self) -> Doubles:
        """Share of each bin (bins,); all 0 for one that counts nothing."""
        codes = np.frombuffer(self.codes, np.uint8).astype(np.float64)
        return codes / max(1.0, codes.sum())

    @property
    def is_constant(self) -> bool:
        """Whether all values lie in one bin: they differ by less than can be told apart."""
        return int(np.count_nonzero(self.shares)) == 1

    def quantile(self, q: float) -> float:
        """The value with share `q` of the values below it, interpolated within its bin."""
        total = np.cumsum(self.shares)
        bin_ = min(int(np.searchsorted(total, q)), len(total) - 1)
        below = float(total[bin_ - 1]) if bin_ else 0.0
        share = float(total[bin_]) - below
        inside = (q - below) / share if share > 0 else 0.5
        return (self.first + bin_ + min(max(inside, 0.0), 1.0)) * self.width


def rank_error(values: int) -> float:
    """By how much the rank of a quantile may be wrong, for a histogram made of so many values."""
    return 2 * LEAST_COUNT / values + 1 / FULL  # what a bin lacks, and once more where the middle one lacks it


def describe(values: Doubles) -> Histogram | None:
    """The histogram of finite values (n,); None when there are too few to protect each, or they cannot be binned."""
    if len(values) < LEAST_VALUES:
        return None
    values = np.clip(values, -LARGEST, LARGEST)
    low, high = (float(v) for v in np.quantile(values, (TAIL, 1 - TAIL)))
    exponent = _exponent(low, high)
    if exponent is None:
        return None
    return _binned(values, exponent, low, high)


def _exponent(low: float, high: float) -> int | None:
    """The finest width, as a power of two, for values of this range; None where no grid has it."""
    level = max(abs(low), abs(high))
    wanted = [(high - low) / BINS, level * 2.0**FINEST]
    exponent = max(EXPONENTS[0], *(math.ceil(math.log2(w)) for w in wanted if w > 0), EXPONENTS[0])
    return exponent if exponent <= EXPONENTS[1] else None


def _binned(values: Doubles, exponent: int, low: float, high: float) -> Histogram:
    """Values in bins from `low` to `high`; those beyond lie in the outermost."""
    width = 2.0**exponent
    first, last = math.floor(low / width), math.floor(high / width)
    at = np.floor(np.clip(values, low, high) / width).astype(np.int64)
    counts = np.bincount(np.clip(at, first, last) - first, minlength=last - first + 1).astype(np.float64)
    return packed(exponent, first, pooled(counts[None], lambda bin_: bool(bin_[0] >= LEAST_COUNT))[0])


def pooled(counts: Doubles, enough: Callable[[Doubles], bool]) -> Doubles:
    """Move what a bin of counts (rows, bins) holds towards the median, until a bin holds enough of it (rows,)."""
    counts, total = counts.copy(), np.cumsum(counts.sum(axis=0))
    middle, last = int(np.searchsorted(total, total[-1] / 2)), counts.shape[1] - 1
    for order in (range(middle), range(last, middle, -1)):
        carried = np.zeros(len(counts))
        for bin_ in order:
            carried, counts[:, bin_] = carried + counts[:, bin_], 0.0
            if enough(carried):
                counts[:, bin_], carried = carried, np.zeros(len(counts))
        counts[:, middle] += carried
    used = np.flatnonzero(counts.any(axis=0))
    if len(used) > 1 and not enough(counts[:, middle]):
        others = used[used != middle]
        counts[:, others[np.abs(others - middle).argmin()]] += counts[:, middle]
        counts[:, middle] = 0.0
    return counts


def packed(exponent: int, first: int, counts: Doubles) -> Histogram:
    """The histogram of counts (bins,), without empty bins at its ends; cumulated shares are right to 1/510."""
    used = np.flatnonzero(counts)
    counts, first = counts[used[0] : used[-1] + 1], first + int(used[0])
    codes = np.diff(np.rint(FULL * np.cumsum(counts) / counts.sum()), prepend=0.0)
    return Histogram(exponent, first, codes.astype(np.uint8).tobytes())
