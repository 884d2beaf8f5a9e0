# SPDX-License-Identifier: Apache-2.0
"""The mean of each coordinate without its extremes."""

from __future__ import annotations

import numpy as np

from .combine import combine
from .order import middle_sum
from .rule import FEWEST, Aggregate, Block, Byzantine, ColumnRule, Gram, Weights, hostile, needed


class TrimmedMean(ColumnRule, frozen=True, forbid_unknown_fields=True):
    """In each coordinate, the mean without the f = `byzantine` largest and smallest values: Yin et al. 2018.

    Breakdown point f / n: holds with up to f hostile of n >= 2 f + 1.

    With a share for f, fewer than 7 rows are averaged, by the square root of their sample counts: among a few sites
    that all differ, what lies farthest out is honest. No rule holds against hostile sites there, only trust looks.
    """

    byzantine: Byzantine = 1

    def minimum(self) -> int:
        """2 byzantine + 1."""
        return needed(self.byzantine, 2, 1)

    def holds(self, n: int) -> int:
        """As many as are cut off at each end."""
        return 0 if self._few(n) else hostile(self.byzantine, n, 2, 1)

    def select(self, gram: Gram, weights: Weights) -> Weights:
        """The same weight for all rows; of few, by the square root of the sample counts: those are claims."""
        if not self._few(len(weights)):
            return np.ones(len(weights))
        roots = np.sqrt(weights)
        return roots / roots.sum()

    def columns(self, block: Block, weights: Weights) -> Aggregate:
        """The mean of each column without its extremes."""
        if self._few(len(block)):
            return combine(block, weights)
        f = hostile(self.byzantine, len(block), 2, 1)
        middle = len(block) - 2 * f
        return np.divide(middle_sum(block, f), np.float32(middle), dtype=np.float32)

    def _few(self, n: int) -> bool:
        return isinstance(self.byzantine, float) and n < FEWEST
