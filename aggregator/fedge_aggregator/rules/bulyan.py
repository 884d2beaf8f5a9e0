"""Bulyan: rows chosen as by Krum, then in each coordinate what lies around their median."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from .krum import scores
from .order import ascending
from .rule import Aggregate, Block, Byzantine, ColumnRule, Gram, Weights, squared_distances


class Bulyan(ColumnRule, frozen=True, forbid_unknown_fields=True):
    """Bulyan: El Mhamdi, Guerraoui & Rouault 2018.

    Takes the Krum choice out n - 2 f times; of those, in each coordinate, the mean of the n - 4 f values closest to the
    median (of two equally close, the smaller). Holds with f = `byzantine` hostile of n >= 4 f + 3, honest nodes' data
    alike.
    """

    compares: ClassVar[bool] = True

    byzantine: Byzantine = 1

    def minimum(self) -> int:
        """4 byzantine + 3."""
        return 4 * self.byzantine + 3

    def select(self, gram: Gram, weights: Weights) -> Weights:
        """1 for each chosen row, 0 for the rest."""
        left, distances = list(range(len(gram))), squared_distances(gram)
        chosen = np.zeros(len(gram))
        for _ in range(len(gram) - 2 * self.byzantine):
            best = int(scores(distances[np.ix_(left, left)], self.byzantine).argmin()) if len(left) > 1 else 0
            chosen[left.pop(best)] = 1.0
        return chosen

    def columns(self, block: Block, weights: Weights) -> Aggregate:
        """Mean of the middle around the median of the chosen rows."""
        rows = ascending(block[weights > 0])
        return _around_median(rows, len(rows) - 2 * self.byzantine)


def _around_median(rows: Block, keep: int) -> Aggregate:
    """Mean (w,) of the `keep` values closest to the median in each column of sorted rows (m, w).

    They are neighbours in sorted order: of all windows of that width, the one that reaches least far from the median.
    Twice the median, so that whole numbers stay whole.
    """
    m = len(rows)
    middle = rows[(m - 1) // 2].astype(np.float32) + rows[m // 2]
    inside = rows[:keep].sum(axis=0, dtype=np.float32)
    best, reach = inside.copy(), _reach(rows, 0, keep, middle)
    for first in range(1, m - keep + 1):
        inside += rows[first + keep - 1]
        inside -= rows[first - 1]
        far = _reach(rows, first, keep, middle)
        closer = far < reach
        np.copyto(best, inside, where=closer)
        np.copyto(reach, far, where=closer)
    return best / np.float32(keep)


def _reach(rows: Block, first: int, keep: int, middle: Aggregate) -> Aggregate:
    """Twice the distance of a window's farther end from the median."""
    two = np.float32(2)
    out: Aggregate = np.maximum(middle - two * rows[first], two * rows[first + keep - 1] - middle)
    return out
