# SPDX-License-Identifier: Apache-2.0
"""Order statistics and sums of the columns of a block: exact, by the faster of two ways.

Both ways give the same numbers, so the choice never shows in a result. Both use only minima and comparisons of bytes,
which every processor has as vector instructions; `np.sort` is fast only on processors that it was written for.
"""

from __future__ import annotations

import numpy as np
from fedge_models.messages.quantize import LIMIT
from numpy.typing import NDArray

from . import bisection, sorting_network
from .rule import MOST_SORTED, Block

PAIR = 258  # rows of bytes whose sum fits into two bytes: 258 * 127 < 2^15


def order_statistics(block: Block, low: int, high: int) -> tuple[Block, Block]:
    """The low-th and high-th smallest value (w,), from 0, of each column of (n, w) whole numbers.

    Overwrites the block.
    """
    wanted, (least, most) = tuple(sorted({low, high})), _range(block)
    if _by_network(block, sorting_network.ordering(len(block), wanted), 2 * len(wanted), least, most):
        rows = sorting_network.run(block, sorting_network.ordering(len(block), wanted))
        return rows[low], rows[high]
    found = [bisection.kth(block, k, least, most) for k in wanted]
    return found[0], found[-1]


def middle_sum(block: Block, cut: int) -> Block:
    """The sum (w,) of each column without its `cut` smallest and largest values, whole numbers.

    Overwrites the block.
    """
    n, (least, most) = len(block), _range(block)
    if _by_network(block, sorting_network.partition(n, cut, n - cut), 4, least, most):
        rows = sorting_network.run(block, sorting_network.partition(n, cut, n - cut))
        return sum_rows(rows[cut : n - cut])
    low, high = (bisection.kth(block, k, least, most) for k in (cut, n - cut - 1))
    np.maximum(block, low, out=block)
    np.minimum(block, high, out=block)  # values that are cut off count as the outermost ones that stay
    return total(block) - cut * (low.astype(np.int64) + high)


def total(block: Block) -> NDArray[np.int64]:
    """The sum (w,) of each column of (n, w)."""
    if block.dtype != np.int8:
        return np.add.reduce(block, axis=0, dtype=np.int64)
    out = np.zeros(block.shape[1], np.int64)
    for first in range(0, len(block), PAIR):
        out += np.add.reduce(block[first : first + PAIR], axis=0, dtype=np.int16)
    return out


def sum_rows(rows: list[Block]) -> Block:
    """The sum (w,) of at most PAIR rows, which need not be adjacent, in as few bytes as hold it."""
    out = np.zeros(len(rows[0]), np.int16 if rows[0].dtype == np.int8 else np.int64)
    for row in rows:
        np.add(out, row, out=out)
    return out


def _range(block: Block) -> tuple[int, int]:
    return (-LIMIT, LIMIT) if block.dtype == np.int8 else (int(block.min()), int(block.max()))


def _by_network(
    block: Block, exchanges: tuple[sorting_network.Exchange, ...], passes: int, least: int, most: int
) -> bool:
    """Whether the network needs fewer passes over a row than bisection, with `passes` over the block for each bit."""
    n = len(block)
    return n <= MOST_SORTED and sorting_network.cost(exchanges) <= passes * n * bisection.bits(least, most)
