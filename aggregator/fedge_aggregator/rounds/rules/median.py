# SPDX-License-Identifier: Apache-2.0
"""The median of each coordinate."""

from __future__ import annotations

import numpy as np

from .order import order_statistics
from .rule import Aggregate, Block, ColumnRule, Weights


class Median(ColumnRule, frozen=True, forbid_unknown_fields=True):
    """The median of each coordinate (mean of the two middle values for even n): Yin et al. 2018.

    Breakdown point 1/2: holds while hostile nodes are a minority, f < n / 2. Assumes that honest nodes' data are alike:
    otherwise it follows the site in the middle and forgets the others; use a mixing before it.
    """

    def minimum(self) -> int:
        """Three: of two, neither is the middle."""
        return 3

    def holds(self, n: int) -> int:
        """A minority."""
        return (n - 1) // 2

    def columns(self, block: Block, weights: Weights) -> Aggregate:
        """The median of each column."""
        n = len(block)
        low, high = order_statistics(block, (n - 1) // 2, n // 2)
        return np.add(low, high, dtype=np.float32) * np.float32(0.5)
