"""The previous aggregate, moved by what the rows differ from it, each difference cut to a radius."""

from __future__ import annotations

from typing import Annotated, ClassVar

import numpy as np
from msgspec import Meta

from .geometric_median import distances_to
from .rule import Gram, WeightRule, Weights


class CentredClipping(WeightRule, frozen=True, forbid_unknown_fields=True):
    """Centred clipping: Karimireddy, He & Jaggi 2021, algorithm 2.

    Starts at the previous aggregate (the origin in the first round). A hostile row moves the result by at most
    radius / n an iteration. The paper's guarantee wants f <= n / 10 and a radius of the honest spread; without `radius`
    it is the median distance of the rows from the centre, which a minority f < n / 2 cannot push beyond honest rows.
    """

    reference: ClassVar[bool] = True

    radius: Annotated[float, Meta(gt=0)] | None = None  # grid steps, over the whole row; none: the median distance
    iterations: Annotated[int, Meta(ge=1, le=1000)] = 3

    @property
    def pairs(self) -> bool:
        """Not for one step, which is about the reference alone."""
        return self.iterations > 1

    def minimum(self) -> int:
        """Three: a median of two distances is nobody's."""
        return 3

    def select(self, gram: Gram, weights: Weights) -> Weights:
        """Weights of the rows and, last, of the previous aggregate; they sum to 1."""
        n = len(gram) - 1
        share = np.zeros(n + 1)
        share[n] = 1.0
        for _ in range(self.iterations):
            kept = shrink(distances_to(gram, share)[:n], self.radius) / n
            share *= 1 - kept.sum()
            share[:n] += kept
        return share


def shrink(lengths: Weights, radius: float | None) -> Weights:
    """The factor (n,) <= 1 that brings each length to at most `radius`; none: to at most their median.

    Of an even number the lower middle one: the mean of both could already be half a liar's.
    """
    limit = np.sort(lengths)[(len(lengths) - 1) // 2] if radius is None else radius
    out: Weights = limit / np.maximum(lengths, max(limit, np.finfo(float).tiny))
    return out
