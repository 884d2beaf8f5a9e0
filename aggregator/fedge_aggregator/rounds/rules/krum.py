# SPDX-License-Identifier: Apache-2.0
"""Krum: the row that lies closest to its neighbours."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .rule import Byzantine, Gram, WeightRule, Weights, hostile, needed, squared_distances


class Krum(WeightRule, frozen=True, forbid_unknown_fields=True):
    """The row with the smallest sum of squared distances to its n - f - 2 nearest others: Blanchard et al. 2017.

    Holds with f = `byzantine` hostile of n >= 2 f + 3, if honest nodes' data are alike. The result is one node's
    update, so the model learns more slowly than from a mean.
    """

    byzantine: Byzantine = 1

    def minimum(self) -> int:
        """2 byzantine + 3."""
        return needed(self.byzantine, 2, 3)

    def holds(self, n: int) -> int:
        """`byzantine` of them."""
        return hostile(self.byzantine, n, 2, 3)

    def select(self, gram: Gram, weights: Weights) -> Weights:
        """1 for the chosen row, 0 for the rest."""
        chosen = np.zeros(len(gram))
        chosen[ranking(squared_distances(gram), hostile(self.byzantine, len(gram), 2, 3))[0]] = 1.0
        return chosen


def ranking(distances: NDArray[np.float64], byzantine: int) -> NDArray[np.intp]:
    """Rows (n,), best first, by the sum of squared distances to their n - f - 2 nearest others (at least one).

    Rows with the same score (two nearest neighbours, where one counts) are ordered by their distances to all, then by
    their number.
    """
    others = distances.copy()
    np.fill_diagonal(others, np.inf)
    near = np.sort(others, axis=1)[:, : max(1, len(distances) - byzantine - 2)]
    return np.lexsort((distances.sum(axis=1), near.sum(axis=1)))
