# SPDX-License-Identifier: Apache-2.0
"""Move the previous aggregate by the differences of the rows from it, each cut to a radius."""

from __future__ import annotations

from typing import Annotated, ClassVar

import numpy as np
from msgspec import Meta

from .geometric_median import distances_to
from .rule import Gram, WeightRule, Weights


class CentredClipping(WeightRule, frozen=True, forbid_unknown_fields=True):
    """Centred clipping: Karimireddy, He & Jaggi 2021, algorithm 2.

    Starts at the previous aggregate (the origin in the first round). A hostile row moves the result by at most
    radius / n in each iteration. The paper's guarantee needs f <= n / 10 and a radius of the honest spread. Without
    `radius` it is the median distance of the rows from the centre, which a minority f < n / 2 cannot push beyond honest
    rows.
    """

    reference: ClassVar[bool] = True

    radius: Annotated[float, Meta(gt=0)] | None = None  # grid steps, over the whole row; none: the median distance
    iterations: Annotated[int, Meta(ge=1, le=1000)] = 3

    @property
    def pairs(self) -> bool:
        """Only with several steps: the first compares rows with the reference alone."""
        return self.iterations > 1

    def minimum(self) -> int:
        """Three: with two, each distance decides half of the median."""
        return 3

    def holds(self, n: int) -> int:
        """A tenth, by its paper."""
        return n // 10

    def select(self, gram: Gram, weights: Weights) -> Weights:
        """The weights of the rows and, last, of the previous aggregate; they sum to 1."""
        n = len(gram) - 1
        share = np.zeros(n + 1)
        share[n] = 1.0
        for _ in range(self.iterations):
            moves = shrink(distances_to(gram, share)[:n], self.radius) / n
            share *= 1 - moves.sum()
            share[:n] += moves
        return share


def shrink(lengths: Weights, radius: float | None) -> Weights:
    """The factors (n,) <= 1 that bring each length to at most `radius`; None: to at most their median.

    Of an even number the lower middle one: the mean of both could be half a liar's.
    """
    limit = np.sort(lengths)[(len(lengths) - 1) // 2] if radius is None else radius
    out: Weights = limit / np.maximum(lengths, max(limit, np.finfo(float).tiny))
    return out
