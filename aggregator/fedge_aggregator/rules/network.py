"""Batcher's odd-even merge sort as a list of exchanges, pruned to the outputs that are needed (Batcher 1968).

On a block of columns an exchange is one `np.minimum` and one `np.maximum` over whole rows, which every processor does
in vector registers; `np.sort` and `np.partition` along columns are ten and more times slower on bytes.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from .rule import Block


class Exchange(NamedTuple):
    """Put the smaller of rows `low` and `high` into `low`, the larger into `high`, as far as either is needed."""

    low: int
    high: int
    smaller: bool
    larger: bool


@lru_cache(maxsize=256)
def exchanges(n: int, wanted: tuple[int, ...]) -> tuple[Exchange, ...]:
    """In order; after them row k of n holds the k-th smallest for every wanted k (from 0)."""
    needed, kept = set(wanted), []
    for low, high in reversed(list(_batcher(n))):
        step = Exchange(low, high, low in needed, high in needed)
        if step.smaller or step.larger:
            needed |= {low, high}
            kept.append(step)
    return tuple(reversed(kept))


@lru_cache(maxsize=256)
def cost(n: int, wanted: tuple[int, ...]) -> int:
    """Passes over a row that the exchanges take."""
    return sum(step.smaller + step.larger for step in exchanges(n, wanted))


def _batcher(n: int) -> Iterator[tuple[int, int]]:
    """Knuth, The Art of Computer Programming vol. 3, algorithm 5.2.2M, for any n."""
    if n < 2:
        return
    top = 1 << ((n - 1).bit_length() - 1)
    p = top
    while p > 0:
        q, r, d = top, 0, p
        while True:
            yield from ((i, i + d) for i in range(n - d) if i & p == r)
            if q == p:
                break
            d, q, r = q - p, q >> 1, p
        p >>= 1


def select(block: Block, wanted: tuple[int, ...]) -> list[Block]:
    """The wanted rows (w,) of the columnwise sorted block (n, w); the block itself is left alone."""
    rows = list(block.copy())
    spare = np.empty_like(rows[0])
    for low, high, smaller, larger in exchanges(len(rows), wanted):
        if smaller and larger:
            np.minimum(rows[low], rows[high], out=spare)
            np.maximum(rows[low], rows[high], out=rows[high])
            rows[low], spare = spare, rows[low]
        elif smaller:
            np.minimum(rows[low], rows[high], out=rows[low])
        else:
            np.maximum(rows[low], rows[high], out=rows[high])
    return [rows[k] for k in wanted]
