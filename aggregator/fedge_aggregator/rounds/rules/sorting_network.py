# SPDX-License-Identifier: Apache-2.0
"""The pairwise sorting network as a list of exchanges, without those that the result does not need (Parberry 1992).

Of Batcher's odd-even merge sort fewer exchanges can be left out: a median of 50 takes 610 passes there instead of 542.
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
    """Put the smaller of rows `low` and `high` into `low` and the larger into `high`, as far as either is needed."""

    low: int
    high: int
    smaller: bool
    larger: bool


@lru_cache(maxsize=256)
def ordering(n: int, wanted: tuple[int, ...]) -> tuple[Exchange, ...]:
    """Exchanges after which row k of n holds the k-th smallest for every wanted k (from 0)."""
    return _pruned(n, dict.fromkeys(wanted, True))


@lru_cache(maxsize=256)
def partition(n: int, first: int, last: int) -> tuple[Exchange, ...]:
    """Exchanges after which rows first..last-1 of n hold the values of those ranks, in some order."""
    return _pruned(n, dict.fromkeys(range(first, last), False))


def cost(exchanges: tuple[Exchange, ...]) -> int:
    """The number of passes over a row that the exchanges take."""
    return sum(step.smaller + step.larger for step in exchanges)


def run(block: Block, exchanges: tuple[Exchange, ...]) -> list[Block]:
    """The rows (w,) of the block (n, w) after the exchanges; overwrites the block."""
    rows, minimum, maximum = list(block), np.minimum, np.maximum
    spare = np.empty_like(rows[0])
    for low, high, smaller, larger in exchanges:
        a, b = rows[low], rows[high]
        if smaller and larger:
            minimum(a, b, out=spare)
            maximum(a, b, out=b)
            rows[low], spare = spare, a
        elif smaller:
            minimum(a, b, out=a)
        else:
            maximum(a, b, out=b)
    return rows


def _pruned(n: int, needed: dict[int, bool]) -> tuple[Exchange, ...]:
    """The exchanges that the needed rows depend on; each row is needed by itself (True) or as one of a set (False).

    They are found backwards. The order within a set does not matter, so nothing is exchanged between two of its rows.
    """
    used = []
    for low, high in reversed(list(_pairwise(n))):
        step = Exchange(low, high, low in needed, high in needed)
        of_one_set = step.smaller and step.larger and not needed[low] and not needed[high]
        if (step.smaller or step.larger) and not of_one_set:
            needed[low] = needed[high] = True
            used.append(step)
    return tuple(reversed(used))


def _pairwise(n: int) -> Iterator[tuple[int, int]]:
    """Parberry, The pairwise sorting network, Parallel Processing Letters 2, 1992; for any n."""
    near = 1
    while near < n:
        yield from ((i, i + near) for i in range(n - near) if not i & near)
        near *= 2
    near, most = near // 4, 1
    while near:
        far = most
        while far:
            yield from ((i - far * near, i) for i in range((far + 1) * near, n) if not i & near)
            far //= 2
        near, most = near // 2, 2 * most + 1
