"""Batcher's odd-even merge sort as a list of comparators, pruned to the outputs that are needed (Batcher 1968).

On int8 columns a comparator is one `np.minimum` and one `np.maximum` over a whole row, which every processor does in
vector registers; `np.sort` and `np.partition` along columns are several times slower.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray


@lru_cache(maxsize=64)
def comparators(n: int, first: int, last: int) -> tuple[tuple[int, int], ...]:
    """Pairs (i, j), i < j, in order: exchange so that row i holds the smaller; rows first..last-1 come out right."""
    wanted, kept = set(range(first, last)), []
    for i, j in reversed(list(_batcher(n))):
        if i in wanted or j in wanted:
            wanted |= {i, j}
            kept.append((i, j))
    return tuple(reversed(kept))


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


def partly_sorted(block: NDArray[np.int8], first: int, last: int) -> NDArray[np.int8]:
    """Rows first..last-1 of the columnwise sorted block (n, d'); the block itself is left alone."""
    rows = list(block.copy())
    spare = np.empty_like(rows[0])
    for i, j in comparators(len(rows), first, last):
        np.minimum(rows[i], rows[j], out=spare)
        np.maximum(rows[i], rows[j], out=rows[j])
        rows[i], spare = spare, rows[i]
    return np.stack(rows[first:last])
