"""Order statistics and sums of the columns of a block, exact and by the quicker of two ways.

Both ways give the same numbers, so the choice never shows in a result. Neither needs more of the processor than vector
minima and comparisons of bytes, unlike `np.sort`, which is quick only where it was written for the processor at hand.
"""

from __future__ import annotations

import numpy as np
from fedge_models.quantize import LIMIT
from numpy.typing import NDArray

from . import bisection, network
from .rule import Block

NETWORK_ROWS = 128  # with more, a row of a block is too short to be worth a call of its own


def order_statistics(block: Block, low: int, high: int) -> tuple[Block, Block]:
    """The low-th and high-th smallest value (w,) of each column of (n, w) whole numbers, counted from 0."""
    wanted = tuple(sorted({low, high}))
    least, most = (-LIMIT, LIMIT) if block.dtype == np.int8 else (int(block.min()), int(block.max()))
    halvings = 2 * len(block) * bisection.bits(least, most) * len(wanted)
    if len(block) <= NETWORK_ROWS and network.cost(len(block), wanted) <= halvings:
        rows = network.select(block, wanted)
        return rows[0], rows[-1]
    found = [bisection.kth(block, k, least, most) for k in wanted]
    return found[0], found[-1]


def total(block: Block) -> NDArray[np.int64]:
    """Sum (w,) of each column of (n, w); bytes are summed by the pair of bytes, which is quicker."""
    if block.dtype != np.int8:
        return np.add.reduce(block, axis=0, dtype=np.int64)
    out = np.zeros(block.shape[1], np.int64)
    for first in range(0, len(block), bisection.GROUP):
        out += np.add.reduce(block[first : first + bisection.GROUP], axis=0, dtype=np.int16)
    return out
