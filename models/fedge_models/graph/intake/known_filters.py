# SPDX-License-Identifier: Apache-2.0
"""Know windows, filters, wavelets and tables of distances by their values, which no weight has by chance."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

FEWEST = 8  # samples of a window, or distances of a table
EXACT = 1e-4  # relative error, far below that of any weights
LONG = 4  # rows and columns from which on a matrix may be one of basis functions
MASKED = -1e4
SOME = 16  # rows that are looked at first
MOST_AXES = 1 << 22  # values of a PCA's matrix
DEGREE = 2  # of the polynomial that a table of distances is, or its logarithm


def is_window(values: NDArray[Any]) -> bool:
    """Whether a row rises and falls alike and is nowhere negative: Hann, Hamming, Blackman, Kaiser, a triangle."""
    if max(values.shape, default=0) != values.size or values.size < FEWEST:
        return False
    row = values.astype(np.float64).ravel()
    top = float(row.max())
    if top <= 0 or row.min() < -EXACT * top or np.ptp(row) < EXACT * top or not _mirrored(row[None]).all():
        return False
    return bool((np.diff(row[: row.size // 2 + 1]) > -EXACT * top).all())


def are_symmetric(values: NDArray[Any]) -> bool:
    """Whether all kernels of one input channel, or all rows or columns of a matrix, are mirrored, and not all alike.

    So are smoothing and differences, filters of linear phase, cosines and sines, also under a window.
    """
    if values.ndim == 2:
        return min(values.shape) >= LONG and max(values.shape) >= 2 * LONG and any(map(_basis, (values, values.T)))
    if values.ndim < 3 or values.shape[1] != 1:
        return False
    kernels = values[:, 0].astype(np.float64)
    if np.ptp(kernels) == 0 or ((kernels != 0).reshape(len(kernels), -1).sum(axis=1) == 1).any():
        return False  # filled with one value, or a single one: so layers begin
    wide = [a for a in range(1, kernels.ndim) if kernels.shape[a] > 1]
    lines = [np.moveaxis(kernels, a, -1).reshape(-1, kernels.shape[a]) for a in wide]
    return bool(lines) and all(bool(_mirrored(rows).all()) for rows in lines)


def _basis(rows: NDArray[Any]) -> bool:
    """Whether the rows are mirrored; of a large matrix of weights some tell already that they are not."""
    return _all_mirrored(rows[:: max(1, len(rows) // SOME)], 1) and _all_mirrored(rows, LONG)


def _all_mirrored(rows: NDArray[Any], fewest: int) -> bool:
    varied = rows[np.ptp(rows, axis=1) > 0].astype(np.float64)
    return rows.shape[1] >= 2 * LONG and len(varied) >= max(fewest, len(rows) // 2) and bool(_mirrored(varied).all())


def _mirrored(rows: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Which rows are even or odd about their middle, or about the sample behind it, as periodic ones are."""
    bound = EXACT * np.abs(rows).max() + 1e-12
    found = np.zeros(len(rows), np.bool_)
    for part in (rows, rows[:, 1:]) if rows.shape[1] >= FEWEST else (rows,):
        for sign in (1, -1):
            found |= np.abs(part - sign * part[:, ::-1]).max(axis=1) <= bound
    return found


def are_wavelets(values: NDArray[Any]) -> bool:
    """Whether kernels of one input channel are orthogonal to their own shifts by two, as Daubechies' are."""
    if values.ndim != 3 or values.shape[1] != 1 or values.shape[2] < 4 or values.shape[2] % 2:
        return False
    rows = values[:, 0].astype(np.float64)
    energy, sums = (rows * rows).sum(axis=1), np.abs(rows.sum(axis=1))
    if np.abs(energy - 1).max() > 10 * EXACT or (np.minimum(sums, np.abs(sums - 2**0.5)) > 100 * EXACT).any():
        return False
    shifts = [np.abs((rows[:, k:] * rows[:, :-k]).sum(axis=1)).max() for k in range(2, rows.shape[1], 2)]
    return max(shifts) < 10 * EXACT


def are_orthogonal(values: NDArray[Any]) -> bool:
    """Whether the rows or the columns of a matrix are at right angles, as the axes of a PCA are."""
    if (
        values.ndim != 2
        or min(values.shape) < 2
        or values.size > MOST_AXES
        or np.count_nonzero(values) <= max(values.shape)
    ):
        return False
    short = (values if values.shape[0] <= values.shape[1] else values.T).astype(np.float64)
    sizes = np.sqrt((short * short).sum(axis=1))
    if sizes.min() == 0:
        return False
    angles = (short / sizes[:, None]) @ (short / sizes[:, None]).T
    return bool(np.abs(angles - np.eye(len(short))).max() < 10 * EXACT)


def are_distances(values: NDArray[Any]) -> bool:
    """Whether a square table, or one for each head, is a simple function of how far apart two positions are.

    A line (ALiBi: Press et al. 2022), a parabola, or an exponential of one (a decay, a Gaussian); what is masked does
    not count. A learnt bias of relative positions is none of these.
    """
    if values.ndim < 2 or values.shape[-1] != values.shape[-2] or values.shape[-1] < FEWEST:
        return False
    size = values.shape[-1]
    away = np.abs(np.subtract.outer(np.arange(size), np.arange(size)))
    tables = values.reshape(-1, size, size)
    return len(tables) <= FEWEST * FEWEST and all(_of_distance(t.astype(np.float64), away) for t in tables)


def _of_distance(table: NDArray[np.float64], away: NDArray[np.int64]) -> bool:
    seen = table > MASKED
    near = np.array([table[i, 0] if seen[i, 0] else table[0, i] for i in range(len(table))])
    known = near > MASKED
    if known.sum() < FEWEST or np.ptp(near[known]) == 0 or not np.allclose(table[seen], near[away[seen]], atol=1e-6):
        return False
    steps = np.arange(len(near))[known]
    forms = [near[known]] + ([np.log(near[known])] if (near[known] > 0).all() else [])
    return any(_is_polynomial(steps, form) for form in forms)


def _is_polynomial(steps: NDArray[np.int64], row: NDArray[np.float64]) -> bool:
    fitted = np.polyval(np.polyfit(steps, row, DEGREE), steps)
    return bool(np.abs(fitted - row).max() < 10 * EXACT * np.ptp(row))
