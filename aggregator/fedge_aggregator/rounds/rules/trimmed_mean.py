# SPDX-License-Identifier: Apache-2.0
"""The mean of each coordinate without its extremes."""

from __future__ import annotations

import numpy as np

from .order import middle_sum
from .rule import Aggregate, Block, Byzantine, ColumnRule, Weights, hostile, needed


class TrimmedMean(ColumnRule, frozen=True, forbid_unknown_fields=True):
    """In each coordinate, the mean without the f = `byzantine` largest and smallest values: Yin et al. 2018.

    Breakdown point f / n: holds with up to f hostile of n >= 2 f + 1.
    """

    byzantine: Byzantine = 1

    def minimum(self) -> int:
        """2 byzantine + 1."""
        return needed(self.byzantine, 2, 1)

    def holds(self, n: int) -> int:
        """As many as are cut off at each end."""
        return hostile(self.byzantine, n, 2, 1)

    def columns(self, block: Block, weights: Weights) -> Aggregate:
        """The mean of each column without its extremes."""
        f = hostile(self.byzantine, len(block), 2, 1)
        middle = len(block) - 2 * f
        return np.divide(middle_sum(block, f), np.float32(middle), dtype=np.float32)
