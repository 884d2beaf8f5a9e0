"""Each row is replaced by the mean of its nearest rows."""

from __future__ import annotations

from typing import ClassVar

import msgspec
import numpy as np

from .mixing import Mixed
from .rule import Byzantine, Gram, hostile, needed, squared_distances

FEWEST = 7  # rows from which on a share of them is mixed


class NearestNeighbourMixing(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Each row becomes the mean of the n - f rows nearest to it, itself included.

    Allouah, Farhadkhani, Guerraoui, Gupta, Pinot & Stephan 2023, "Fixing by mixing". Honest rows that differ because
    their sites do come closer together, so that the rule that follows loses less of them; order-optimal with
    f = `byzantine` hostile of n >= 2 f + 1 and any rule of bounded robustness. Equal distances: the earlier row.

    With a share for f, fewer than 7 rows are left as they are: among a few sites of which each is unlike the others,
    the odd one out is honest, and never being anybody's neighbour it would not count (measured).
    """

    compares: ClassVar[bool] = True

    byzantine: Byzantine = 1

    def minimum(self, rule: int) -> int:
        """2 byzantine + 1, and what the rule needs: as many rows come out as go in."""
        return max(needed(self.byzantine, 2, 1), rule)

    def mix(self, gram: Gram, n: int, seed: int) -> Mixed:
        """1 for each of the n - f nearest."""
        mixes = isinstance(self.byzantine, int) or n >= FEWEST
        keep = n - hostile(self.byzantine, n, 2, 1) if mixes else 1
        distances = squared_distances(gram)
        np.fill_diagonal(distances, -1.0)  # itself, before any row that equals it
        nearest = np.argsort(distances, axis=1, kind="stable")[:, :keep]
        matrix = np.zeros((n, n), np.int64)
        np.put_along_axis(matrix, nearest, 1, axis=1)
        return Mixed(matrix, keep)
