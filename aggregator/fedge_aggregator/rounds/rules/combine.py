# SPDX-License-Identifier: Apache-2.0
"""Weighted sums of rows of codes, with the same bits in any block, thread and BLAS.

Each weight is split into two whole numbers, coarse and fine, so that both products with the codes stay below 2^24.
Then float32 holds every partial sum exactly, in any order. Rows are taken GROUP by GROUP: the split loses less than a
thousandth of a grid step of any mean, however many rows there are.
"""

from __future__ import annotations

import numpy as np
from fedge_models.messages.quantize import LIMIT, Codes
from numpy.typing import NDArray

EXACT = 1 << 24  # float32 holds whole numbers up to here
GROUP = 256  # rows
FLOATS = 1 << 18  # of a block at once: few long calls, because threads take turns between calls


def combine(block: Codes, weights: NDArray[np.float64]) -> NDArray[np.float32]:
    """The weighted sum (w,) of the rows of a block (n, w) int8."""
    out = np.zeros(block.shape[1], np.float32)
    if not weights.all():
        block, weights = block[weights != 0], weights[weights != 0]
    for first in range(0, len(block), GROUP):
        _add(out, block[first : first + GROUP], weights[first : first + GROUP])
    return out


def _add(out: NDArray[np.float32], block: Codes, weights: NDArray[np.float64]) -> None:
    coarse, fine, unit, part = split(weights)
    both, width = np.stack([coarse, fine]), max(256, FLOATS // len(block))
    sums, room = np.empty((2, len(out)), np.float32), np.empty((len(block), width), np.float32)
    for at in range(0, len(out), width):
        codes = block[:, at : at + width]
        floats = room[:, : codes.shape[1]]
        np.copyto(floats, codes)
        with np.errstate(invalid="ignore"):  # some BLAS also multiply the memory beyond narrow blocks
            np.matmul(both, floats, out=sums[:, at : at + width])
    inner, rest = sums
    rest *= part
    inner += rest
    inner *= unit
    out += inner


def split(
    weights: NDArray[np.float64],
) -> tuple[NDArray[np.float32], NDArray[np.float32], np.float32, np.float32]:
    """Whole numbers coarse, fine (n,) and powers of two unit, part: weights are about (coarse + fine part) unit."""
    n = len(weights)
    room = EXACT / LIMIT - n / 2
    larger = 2.0 ** np.floor(np.log2(room / np.abs(weights).sum()))
    finer = 2.0 ** np.floor(np.log2(2 * room / n))
    coarse = np.rint(weights * larger)
    fine = np.rint((weights * larger - coarse) * finer)
    return coarse.astype(np.float32), fine.astype(np.float32), np.float32(1 / larger), np.float32(1 / finer)
