# SPDX-License-Identifier: Apache-2.0
"""Know by its values what is no weight: a mask, a table of positions or rotations, a ramp, waves, a filter bank."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import numpy as np
from numpy.typing import NDArray

FEWEST = 8  # samples of a wave: fewer could be weights by chance
EXACT = 1e-3  # relative error of a wave's recurrence, far below that of any weights
WITHIN = 0.9  # of a row's energy within two bins of its peak: a wave under a window
MASKED = -1e4
SOME = 16  # rows that are looked at first


def is_mask(values: NDArray[Any], operators: Collection[str]) -> bool:
    """Zero or (nearly) minus infinity, and both; where it is multiplied, also zero and one, and both."""
    low = values <= MASKED
    if low.any() and (values[~low] == 0).all() and not low.all():
        return True
    zeros, ones = values == 0, values == 1
    return set(operators) == {"Mul"} and bool(zeros.any() and ones.any() and (zeros | ones).all())


def are_rotations(one: NDArray[Any], other: NDArray[Any]) -> bool:
    """Whether two tables are cosine and sine of the same angles (Su et al. 2021, RoFormer)."""
    if one.shape != other.shape or one.size < FEWEST or not may_turn(one) or not may_turn(other):
        return False
    return bool(np.allclose(one * one + other * other, 1, atol=EXACT))


def may_turn(table: NDArray[Any]) -> bool:
    """Whether a table may be one of cosines or sines: between -1 and 1, and not all the same."""
    low, high = float(table.min(initial=0)), float(table.max(initial=0))
    return low >= -1 - EXACT and high <= 1 + EXACT and float(np.ptp(table)) >= EXACT


def is_ramp(values: NDArray[Any]) -> bool:
    """Whether a single row rises (or falls) by the same step, or by the same factor: indices, times, frequencies."""
    if values.size < FEWEST or max(values.shape, default=0) != values.size or np.ptp(values) == 0:
        return False
    row = values.astype(np.float64).ravel()
    steps = np.diff(row)
    if np.abs(steps - steps.mean()).max() < EXACT * np.abs(steps.mean()):
        return True
    factors = row[1:] / row[:-1] if (row > 0).all() else np.zeros(0)
    return bool(factors.size and np.abs(factors - factors.mean()).max() < EXACT * abs(factors.mean() - 1))


def are_positions(values: NDArray[Any]) -> bool:
    """Whether rows are sines and cosines of one angle each, side by side or in two halves (Vaswani et al. 2017)."""
    width = values.shape[-1]
    rows = values.reshape(-1, width)
    if width % 2 or len(rows) < FEWEST or rows.std() == 0:
        return False
    pairs = ((rows[:, ::2], rows[:, 1::2]), (rows[:, : width // 2], rows[:, width // 2 :]))
    return any(bool(np.allclose(a * a + b * b, 1, atol=EXACT)) for a, b in pairs)


def are_waves(values: NDArray[Any]) -> bool:
    """Whether the rows or the columns of a matrix, or the kernels of a convolution, are waves, whole or windowed."""
    if values.ndim > 2:
        return values.ndim == 3 and values.shape[1] == 1 and _waves(values[:, 0].astype(np.float64))
    return any(_could_be(rows) and _waves(rows.astype(np.float64)) for rows in (values, values.T))


def _could_be(rows: NDArray[Any]) -> bool:
    """Whether some of the rows are waves: a large matrix of weights need not be looked at as a whole."""
    some = rows[:: max(1, len(rows) // SOME)].astype(np.float64)
    varied = _varied(some)
    return rows.shape[1] >= FEWEST and (not len(varied) or bool((_recurs(varied) | _peaks(varied)[1]).all()))


def _waves(rows: NDArray[np.float64]) -> bool:
    varied = _varied(rows)
    if rows.shape[1] < FEWEST or len(rows) < 2 or len(varied) < max(2, len(rows) // 3):
        return False
    if _recurs(varied).all():
        return True
    peak, within = _peaks(varied)
    return bool(within.all() and len(set(peak.tolist())) > len(peak) // 4)


def _varied(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    if not rows.size:
        return rows[:0]
    return rows[np.ptp(rows, axis=1) > EXACT * (np.abs(rows).max() + 1e-30)]


def _recurs(rows: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Which rows obey v[n+1] + v[n-1] = 2 cos(w) v[n]."""
    inner = rows[:, 1:-1]
    around = rows[:, 2:] + rows[:, :-2]
    turn = (around * inner).sum(axis=1) / np.maximum((inner * inner).sum(axis=1), 1e-30)
    error = np.abs(around - turn[:, None] * inner).max(axis=1) / np.abs(rows).max(axis=1)
    found: NDArray[np.bool_] = error < EXACT
    return found


def _peaks(rows: NDArray[np.float64]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """The frequency of each row, and whether its energy is there: a wave under a window."""
    power = np.abs(np.fft.rfft(rows, axis=1)) ** 2
    if power.shape[1] < 2 * FEWEST:
        return np.zeros(len(rows), np.int64), np.zeros(len(rows), np.bool_)
    peak = power.argmax(axis=1)
    near = np.abs(np.arange(power.shape[1]) - peak[:, None]) <= 2
    within = (power * near).sum(axis=1) / np.maximum(power.sum(axis=1), 1e-30)
    return peak, within > WITHIN


def is_filter_bank(values: NDArray[Any]) -> bool:
    """Nowhere negative, with many exact zeros in order: triangles of a mel scale, an identity, a mean, a neighbourhood.

    Weights that are kept from being negative (a monotone network) have as many zeros, anywhere.
    """
    if values.ndim != 2 or min(values.shape) < 4 or (values[0] < 0).any():
        return False
    zeros = values == 0
    if not (values >= 0).all() or not 0.25 <= zeros.mean() < 1 or (~zeros).any(axis=0).mean() <= 0.5:
        return False
    return _in_bands(~zeros) or _in_bands(~zeros.T) or _is_neighbourhood(values)


def _in_bands(filled: NDArray[np.bool_]) -> bool:
    """Whether what is filled of each row is in one piece, of long rows also around their ends."""
    changes = (filled[:, 1:] != filled[:, :-1]).sum(axis=1)
    around = filled[:, 0] != filled[:, -1]
    inner = filled[:, 0] & filled[:, -1] & (changes > 0) & (filled.shape[1] < FEWEST)
    return bool((changes + around <= 2).all() and not inner.any())


def _is_neighbourhood(values: NDArray[Any]) -> bool:
    """Whether a matrix says which values belong together: symmetric, or of few different numbers."""
    if values.shape[0] == values.shape[1] and np.allclose(values, values.T, atol=EXACT * float(values.max())):
        return True
    return bool(np.unique(values).size <= max(values.shape))
