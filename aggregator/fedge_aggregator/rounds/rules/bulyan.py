# SPDX-License-Identifier: Apache-2.0
"""Bulyan: choose rows as Krum does, then average what lies around their median in each coordinate."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from .krum import ranking
from .order import order_statistics, total
from .rule import Aggregate, Block, Byzantine, ColumnRule, Gram, Weights, hostile, needed, squared_distances

PIECE = 1 << 18  # values at a time: each needs many wider copies


class Bulyan(ColumnRule, frozen=True, forbid_unknown_fields=True):
    """Bulyan: El Mhamdi, Guerraoui & Rouault 2018.

    Takes Krum's choice out n - 2 f times. The result is, in each coordinate, the mean of the n - 4 f of those values
    that are closest to their median (of two equally close ones, the smaller). Holds with f = `byzantine` hostile of n
    >= 4 f + 3, if honest nodes' data are alike.
    """

    compares: ClassVar[bool] = True

    byzantine: Byzantine = 1

    def minimum(self) -> int:
        """4 byzantine + 3."""
        return needed(self.byzantine, 4, 3)

    def holds(self, n: int) -> int:
        """`byzantine` of them."""
        return hostile(self.byzantine, n, 4, 3)

    def alone(self, n: int) -> bool:
        """Always: its calls are short."""
        return True

    def select(self, gram: Gram, weights: Weights) -> Weights:
        """1 for each chosen row, 0 for the rest."""
        left, distances = list(range(len(gram))), squared_distances(gram)
        f, chosen = hostile(self.byzantine, len(gram), 4, 3), np.zeros(len(gram))
        for _ in range(len(gram) - 2 * f):
            best = ranking(distances[np.ix_(left, left)], f)[0]
            chosen[left.pop(best)] = 1.0
        return chosen

    def columns(self, block: Block, weights: Weights) -> Aggregate:
        """The mean of the values around the median of the chosen rows."""
        chosen = weights > 0
        f = hostile(self.byzantine, len(block), 4, 3)
        keep, width = int(chosen.sum()) - 2 * f, max(1024, PIECE // len(block))
        pieces = [around_median(block[chosen, i : i + width], keep) for i in range(0, block.shape[1], width)]
        return np.concatenate(pieces)


def around_median(rows: Block, keep: int) -> Aggregate:
    """The mean (w,) of the `keep` values closest to the median in each column of (m, w).

    In units of half a step, so that the median of an even number is whole. All values nearer than the keep-th nearest
    count; of those exactly as far as it, the smaller ones are taken first.
    """
    m = len(rows)
    wide = np.int16 if rows.dtype == np.int8 else np.int64
    low, high = order_statistics(rows.copy(), (m - 1) // 2, m // 2)
    middle = low.astype(wide) + high
    far = np.abs(2 * rows.astype(wide) - middle)
    reach, _ = order_statistics(far.copy(), keep - 1, keep - 1)
    nearer = far < reach
    left = (2 * rows.astype(wide) == middle - reach).sum(axis=0)
    missing = keep - nearer.sum(axis=0)
    smaller = np.minimum(left, missing)
    ends = smaller * (middle - reach) + (missing - smaller) * (middle + reach)
    inside = total(rows * nearer) + ends // 2
    return (inside / keep).astype(np.float32)
