"""The mean of each coordinate without its extremes."""

from __future__ import annotations

import numpy as np

from .order import order_statistics, total
from .rule import Aggregate, Block, Byzantine, ColumnRule, Weights


class TrimmedMean(ColumnRule, frozen=True, forbid_unknown_fields=True):
    """In each coordinate, the mean without the f = `byzantine` largest and smallest values: Yin et al. 2018.

    Breakdown point f / n: holds with up to f hostile of n >= 2 f + 1.
    """

    byzantine: Byzantine = 1

    def minimum(self) -> int:
        """2 byzantine + 1."""
        return 2 * self.byzantine + 1

    def columns(self, block: Block, weights: Weights) -> Aggregate:
        """Mean of the middle of each column."""
        f, n = self.byzantine, len(block)
        low, high = order_statistics(block, f, n - f - 1)
        # What was cut off counts as the outermost value that is kept, f times at each end.
        within = np.maximum(block, low)
        inside = total(np.minimum(within, high, out=within)) - f * (low.astype(np.int64) + high)
        return (inside / (n - 2 * f)).astype(np.float32)
