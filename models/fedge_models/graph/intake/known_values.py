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


def is_mask(values: NDArray[Any], operators: Collection[str]) -> bool:
    """Zero or (nearly) minus infinity, and both; where it is multiplied, also zero and one, and both."""
    low = values <= MASKED
    if low.any() and (values[~low] == 0).all() and not low.all():
        return True
    zeros, ones = values == 0, values == 1
    return set(operators) == {"Mul"} and bool(zeros.any() and ones.any() and (zeros | ones).all())


def are_rotations(one: NDArray[Any], other: NDArray[Any]) -> bool:
    """Whether two tables are cosine and sine of the same angles (Su et al. 2021, RoFormer)."""
    if one.shape != other.shape or one.size < FEWEST or np.ptp(one) < EXACT or np.ptp(other) < EXACT:
        return False
    return bool(np.allclose(one * one + other * other, 1, atol=EXACT))


def is_ramp(values: NDArray[Any]) -> bool:
    """Whether a single row rises (or falls) by the same step, or by the same factor: indices, times, frequencies."""
    row = values.astype(np.float64).ravel()
    if max(values.shape, default=0) != row.size or row.size < FEWEST or np.ptp(row) == 0:
        return False
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
    matrix = values.astype(np.float64)
    return _waves(matrix) or _waves(matrix.T)


def _waves(rows: NDArray[np.float64]) -> bool:
    varied = rows[np.ptp(rows, axis=1) > EXACT * (np.abs(rows).max() + 1e-30)]
    if rows.shape[1] < FEWEST or len(rows) < 2 or len(varied) < max(2, len(rows) // 3):
        return False
    inner = varied[:, 1:-1]
    around = varied[:, 2:] + varied[:, :-2]  # v[n+1] + v[n-1] = 2 cos(w) v[n]
    turn = (around * inner).sum(axis=1) / np.maximum((inner * inner).sum(axis=1), 1e-30)
    error = np.abs(around - turn[:, None] * inner).max(axis=1) / np.abs(varied).max(axis=1)
    if (error < EXACT).all():
        return True
    power = np.abs(np.fft.rfft(varied, axis=1)) ** 2
    if power.shape[1] < 2 * FEWEST:
        return False
    peak = power.argmax(axis=1)
    near = np.abs(np.arange(power.shape[1]) - peak[:, None]) <= 2
    within = (power * near).sum(axis=1) / np.maximum(power.sum(axis=1), 1e-30)
    return bool((within > WITHIN).all() and len(set(peak.tolist())) > len(peak) // 4)


def is_filter_bank(values: NDArray[Any]) -> bool:
    """Nowhere negative, with many exact zeros in a band: triangles of a mel scale, an identity, a running mean."""
    if values.ndim != 2 or min(values.shape) < 4:
        return False
    zeros = values == 0
    return bool((values >= 0).all() and 0.25 <= zeros.mean() < 1 and (~zeros).any(axis=0).mean() > 0.5)
