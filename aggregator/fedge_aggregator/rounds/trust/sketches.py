# SPDX-License-Identifier: Apache-2.0
"""Sketches: short vectors that keep the inner products and distances of long ones.

A count sketch (Charikar, Chen, Farach-Colton 2002): each coordinate is added, with a sign, to one of WIDTH places.
Place and sign follow from the coordinate's number. Sketches are linear: those of column blocks add up to that of the
whole row. A squared length is right to about sqrt(2 / WIDTH), a tenth. Sums of int8 codes are whole numbers: exact,
and the same bits in any order of blocks. Each node's reputation holds one sketch: 1 KiB, whatever the model's size.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..engine.update_rows import Rows

WIDTH = 256
_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)  # Knuth's multiplicative hashing, 2^64 / golden ratio

Floats = NDArray[np.float64]


def sketch(block: NDArray[np.generic], start: int = 0) -> Floats:
    """Sketches (n, WIDTH) of columns start.. of n rows, given as a block (n, w); those of all blocks add up."""
    place, sign = _places(start, block.shape[1])
    return np.stack([np.bincount(place, sign * row, WIDTH) for row in block]) if len(block) else np.empty((0, WIDTH))


def sketches_of(rows: Rows, start: int, stop: int) -> Floats:
    """The part of the rows' sketches (n, WIDTH) that columns start..stop-1 contribute."""
    total = np.zeros((rows.n, WIDTH))
    for first in range(start, stop, rows.width):
        total += sketch(rows.block(first, min(first + rows.width, stop)), first)
    return total


def _places(start: int, width: int) -> tuple[NDArray[np.int64], Floats]:
    """The place and the sign of each coordinate."""
    mixed = (np.arange(start + 1, start + width + 1, dtype=np.uint64) * _MULTIPLIER) >> np.uint64(32)
    mixed ^= mixed >> np.uint64(15)
    mixed = (mixed * _MULTIPLIER) >> np.uint64(40)
    return (mixed % np.uint64(WIDTH)).astype(np.int64), np.where(mixed & np.uint64(WIDTH), 1.0, -1.0)
