# SPDX-License-Identifier: Apache-2.0
"""The point whose sum of distances to all rows is smallest."""

from __future__ import annotations

from typing import Annotated

import numpy as np
from msgspec import Meta

from .rule import Gram, WeightRule, Weights


class GeometricMedian(WeightRule, frozen=True, forbid_unknown_fields=True):
    """RFA, the geometric median by the smoothed Weiszfeld iteration: Pillutla, Kakade & Harchaoui 2022.

    Breakdown point 1/2. Every iterate is a weighted mean of the rows, so all iterations work on the Gram matrix, where
    they cost nothing. It starts at the mean and ends after `iterations`, or when no weight changes any more.
    """

    smoothing: Annotated[float, Meta(gt=0, le=1e6)] = 1e-3  # grid steps: smaller distances count as this one
    iterations: Annotated[int, Meta(ge=1, le=10_000)] = 200

    def minimum(self) -> int:
        """Three: of two rows, every point between them is a median."""
        return 3

    def holds(self, n: int) -> int:
        """A minority."""
        return (n - 1) // 2

    def select(self, gram: Gram, weights: Weights) -> Weights:
        """The weights of the rows, inverse to their distance from the median; they sum to 1."""
        n = len(gram)
        share = np.full(n, 1 / n)
        for _ in range(self.iterations):
            pull = 1 / np.maximum(distances_to(gram, share), self.smoothing)
            before, share = share, pull / pull.sum()
            if np.abs(share - before).max() < 1e-12:
                break
        return share


def distances_to(gram: Gram, share: Weights) -> Weights:
    """The distance (n,) of every row to the weighted mean of rows; the shares sum to 1."""
    inner = gram @ share
    squared = np.diag(gram) - 2 * inner + share @ inner
    out: Weights = np.sqrt(np.maximum(squared, 0))
    return out
