"""Krum: the one row that lies closest to its neighbours."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .rule import Byzantine, Gram, WeightRule, Weights, squared_distances


class Krum(WeightRule, frozen=True, forbid_unknown_fields=True):
    """The row with the smallest sum of squared distances to its n - f - 2 nearest others: Blanchard et al. 2017.

    Holds with f = `byzantine` hostile of n >= 2 f + 3, honest nodes' data alike. Equal scores: the first row.
    One node's update is the result: slower to learn than a mean of many.
    """

    byzantine: Byzantine = 1

    def minimum(self) -> int:
        """2 byzantine + 3."""
        return 2 * self.byzantine + 3

    def select(self, gram: Gram, weights: Weights) -> Weights:
        """1 for the chosen row, 0 for the rest."""
        chosen = np.zeros(len(gram))
        chosen[scores(squared_distances(gram), self.byzantine).argmin()] = 1.0
        return chosen


def scores(distances: NDArray[np.float64], byzantine: int) -> NDArray[np.float64]:
    """Sum (n,) of each row's squared distances to its n - f - 2 nearest others (at least one)."""
    others = distances.copy()
    np.fill_diagonal(others, np.inf)
    near = np.sort(others, axis=1)[:, : max(1, len(distances) - byzantine - 2)]
    total: NDArray[np.float64] = near.sum(axis=1)
    return total
