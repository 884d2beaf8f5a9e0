# SPDX-License-Identifier: Apache-2.0
"""Multi-Krum: the mean of the rows that lie closest to their neighbours."""

from __future__ import annotations

import numpy as np

from .krum import ranking
from .rule import Byzantine, Gram, WeightRule, Weights, hostile, needed, squared_distances


class MultiKrum(WeightRule, frozen=True, forbid_unknown_fields=True):
    """The mean of the n - f rows with the smallest Krum scores: Blanchard et al. 2017, section 4.

    Holds with f = `byzantine` hostile of n >= 2 f + 3, if honest nodes' data are alike.
    """

    byzantine: Byzantine = 1

    def minimum(self) -> int:
        """2 byzantine + 3."""
        return needed(self.byzantine, 2, 3)

    def holds(self, n: int) -> int:
        """`byzantine` of them."""
        return hostile(self.byzantine, n, 2, 3)

    def select(self, gram: Gram, weights: Weights) -> Weights:
        """1 / (n - f) for each chosen row, 0 for the rest."""
        f = hostile(self.byzantine, len(gram), 2, 3)
        keep, chosen = len(gram) - f, np.zeros(len(gram))
        chosen[ranking(squared_distances(gram), f)[:keep]] = 1 / keep
        return chosen
