"""Order statistics of the columns of a block."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .network import partly_sorted
from .rule import Block


def order_statistics(block: Block, low: int, high: int) -> tuple[Block, Block]:
    """The low-th and high-th smallest value (w,) of each column of (n, w), counted from 0."""
    rows = partly_sorted(block, low, high + 1)
    return rows[0], rows[-1]


def ascending(block: Block) -> Block:
    """Each column sorted, smallest first."""
    return np.sort(block, axis=0)


def total(block: Block) -> NDArray[np.float64]:
    """Sum (w,) of each column, exact for whole numbers."""
    return np.add.reduce(block, axis=0, dtype=np.int32 if block.dtype == np.int8 else np.float64).astype(np.float64)
