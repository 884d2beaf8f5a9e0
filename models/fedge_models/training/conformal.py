# SPDX-License-Identifier: Apache-2.0
"""Bound the error of an estimate by errors on held-back data. Pure.

Two promises. `margins` holds for more data of the same units (machines, runs, cells) as were held back: split
conformal prediction (Papadopoulos et al. 2002; Lei et al. 2018, "Distribution-Free Predictive Inference for
Regression", JASA 113). `margins_of_new_unit` holds for a unit with no data yet. There the errors of one unit count
as one observation, however many there are: they share what sets the unit apart.

For a machine that drifts neither holds; the errors of the next release will show it.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from .student import two_sided

Margins = tuple[float, float]
BEYOND = 3  # units that lie beyond the bounds; where fewer would, they do not show where the bounds lie
OTHERS = 2  # units that the other sites' error counts for, chosen on cuts of training data (docs/benchmarks.md)


def margins(errors: NDArray[np.floating], confidence: float) -> Margins | None:
    """Return (low, high) to add to an estimate, from errors (n,) = truth - estimate; None when n is too small.

    Each side is missed with probability (1 - confidence) / 2 at most: the k-th largest error with
    k = ceil((n + 1) (1 - miss)) (Lei et al., algorithm 2).
    """
    known = np.sort(errors[np.isfinite(errors)])
    n, miss = len(known), (1 - confidence) / 2
    k = math.ceil((n + 1) * (1 - miss))
    if not 1 <= k <= n:
        return None
    return float(known[n - k]), float(known[k - 1])


def margins_of_new_unit(
    errors: NDArray[np.floating], units: NDArray[np.int64], confidence: float, others: float | None = None
) -> Margins | None:
    """Return (low, high) to add to an estimate for a unit that is not among `units` (n,), from errors (n,).

    others: root mean square error on held-back units at other sites, if it is known. None where neither tells anything.

    With many units by the quantile of all errors in which units count alike, and a unit to come as an infinite error
    (hierarchical conformal prediction: Dunn, Wasserman & Ramdas 2018; Lee, Barber & Willett 2023). Few units do not
    show their tail, so it is taken to be a Gaussian's, with as many degrees of freedom as there are units: wide, and
    narrower with each unit.
    """
    finite = np.isfinite(errors)
    squares, sizes, at = _by_unit(errors[finite], units[finite])
    count = len(sizes)
    if are_many(count, confidence):
        margin = _counted(np.abs(errors[finite]), 1 / (sizes[at] * (count + 1)), confidence)
    else:
        freedom, total = count, float(squares.sum())
        if others is not None:
            freedom, total = count + OTHERS, total + OTHERS * others**2
        if not freedom:
            return None
        margin = two_sided(confidence, freedom) * math.sqrt(total / freedom)
    return (-margin, margin) if math.isfinite(margin) else None


def are_many(units: int, confidence: float) -> bool:
    """Whether so many units show by themselves where the bounds lie."""
    return units * (1 - confidence) >= BEYOND


def error_of_units(errors: NDArray[np.floating], units: NDArray[np.int64]) -> float | None:
    """Return the root mean square of errors (n,) in which units count alike; None without any."""
    finite = np.isfinite(errors)
    squares, sizes, _ = _by_unit(errors[finite], units[finite])
    return math.sqrt(float(squares.mean())) if len(sizes) else None


def _by_unit(
    errors: NDArray[np.floating], units: NDArray[np.int64]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.intp]]:
    """Mean square and number of errors by unit (units,), and the unit of each error (n,)."""
    found, at = np.unique(units, return_inverse=True)
    sizes = np.bincount(at, minlength=len(found)).astype(np.float64)
    totals = np.bincount(at, weights=np.square(errors, dtype=np.float64), minlength=len(found))
    return totals / np.maximum(sizes, 1), sizes, at


def _counted(values: NDArray[np.floating], weights: NDArray[np.float64], share: float) -> float:
    """The least of the values up to which lies this share of the weights; infinite where all weigh less."""
    order = np.argsort(values)
    at = int(np.searchsorted(np.cumsum(weights[order]), share * (1 - 1e-12)))
    return float(values[order[at]]) if at < len(values) else math.inf
