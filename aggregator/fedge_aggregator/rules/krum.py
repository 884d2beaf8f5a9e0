"""Krum: the one row that lies closest to its neighbours."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import msgspec
import numpy as np
from msgspec import Meta
from numpy.typing import NDArray

from .rule import Aggregate, Codes, Weights, mean

BLOCK = 1 << 16  # columns at a time


class Krum(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The row with the smallest sum of squared distances to its n - f - 2 nearest others: Blanchard et al. 2017.

    Holds with f = `byzantine` hostile of n >= 2 f + 3. Sample counts have no say. Equal scores: the first row.
    """

    byzantine: Annotated[int, Meta(ge=0, le=10_000)] = 1

    def minimum(self) -> int:
        """2 byzantine + 3."""
        return 2 * self.byzantine + 3

    def select(self, rows: Sequence[Codes], weights: Weights) -> Weights:
        """1 for the chosen row, 0 for the rest."""
        distances = squared_distances(rows)
        np.fill_diagonal(distances, np.inf)
        near = np.sort(distances, axis=1)[:, : len(rows) - self.byzantine - 2]
        chosen = np.zeros(len(rows))
        chosen[near.sum(axis=1).argmin()] = 1.0
        return chosen

    def columns(self, block: Codes, weights: Weights) -> Aggregate:
        """The chosen row."""
        return mean(block, weights)


def squared_distances(rows: Sequence[Codes]) -> NDArray[np.float64]:
    """Squared Euclidean distances (n, n) between int8 rows, from one centred Gram matrix.

    Columns come in blocks: products in float32, sums over blocks in float64. Centring keeps the distances of rows that
    are nearly alike from drowning in the rounding of their large common part.
    """
    n, d = len(rows), len(rows[0])
    gram = np.zeros((n, n))
    for start in range(0, d, BLOCK):
        block = np.stack([row[start : start + BLOCK] for row in rows]).astype(np.float32)
        block -= block.mean(axis=0)
        gram += block @ block.T
    norms = np.diag(gram)
    return np.maximum(norms[:, None] + norms[None, :] - 2 * gram, 0)
