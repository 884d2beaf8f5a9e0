# SPDX-License-Identifier: Apache-2.0
"""Replace each row by the mean of its nearest rows."""

from __future__ import annotations

from typing import ClassVar

import msgspec
import numpy as np

from .mixing import Mixed
from .rule import FEWEST, Byzantine, Gram, hostile, needed, squared_distances


class NearestNeighbourMixing(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Each row becomes the mean of the n - f rows nearest to it, itself included.

    Allouah, Farhadkhani, Guerraoui, Gupta, Pinot & Stephan 2023, "Fixing by mixing". Honest rows that differ because
    their sites differ come closer together, so that the rule after it loses less of them. Order-optimal with f =
    `byzantine` hostile of n >= 2 f + 1 and any rule of bounded robustness. Of equal distances the earlier row counts as
    nearer.

    With a share for f, fewer than 7 rows stay as they are: among a few sites that all differ, the odd one out is
    honest, and it would not count, because it is nobody's neighbour (measured: docs/benchmarks.md).
    """

    compares: ClassVar[bool] = True

    byzantine: Byzantine = 1

    def minimum(self, rule: int) -> int:
        """2 byzantine + 1, and what the rule needs: the number of rows stays the same."""
        return max(needed(self.byzantine, 2, 1), rule)

    def mix(self, gram: Gram, n: int, seed: int) -> Mixed:
        """1 for each of the n - f nearest rows."""
        mixes = isinstance(self.byzantine, int) or n >= FEWEST
        keep = n - hostile(self.byzantine, n, 2, 1) if mixes else 1
        distances = squared_distances(gram)
        np.fill_diagonal(distances, -1.0)  # a row itself comes before any row that equals it
        nearest = np.argsort(distances, axis=1, kind="stable")[:, :keep]
        matrix = np.zeros((n, n), np.int64)
        np.put_along_axis(matrix, nearest, 1, axis=1)
        return Mixed(matrix, keep)
