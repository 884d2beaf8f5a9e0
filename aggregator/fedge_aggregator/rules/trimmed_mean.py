"""Coordinate-wise order statistics."""

from __future__ import annotations

from typing import Annotated

import numpy as np
from msgspec import Meta

from .network import partly_sorted
from .rule import Aggregate, Codes, ColumnRule, Weights


class TrimmedMean(ColumnRule, frozen=True, forbid_unknown_fields=True):
    """In each coordinate, the mean without the `trim` largest and `trim` smallest values: Yin et al. 2018.

    Holds with up to f = `trim` hostile of n >= 2 f + 1. Sample counts have no say: a claim must not buy a vote.
    """

    trim: Annotated[int, Meta(ge=1, le=10_000)] = 1

    def minimum(self) -> int:
        """2 trim + 1."""
        return 2 * self.trim + 1

    def columns(self, block: Codes, weights: Weights) -> Aggregate:
        """Mean of the middle of each column."""
        middle = partly_sorted(block, self.trim, len(block) - self.trim)
        return _mean(middle)


class Median(ColumnRule, frozen=True, forbid_unknown_fields=True):
    """The median of each coordinate (mean of the two middle values for even n): Yin et al. 2018.

    Holds while hostile nodes are a minority (f < n / 2). Sample counts have no say.
    """

    def minimum(self) -> int:
        """Three: of two, neither is the middle."""
        return 3

    def columns(self, block: Codes, weights: Weights) -> Aggregate:
        """Median of each column."""
        n = len(block)
        middle = partly_sorted(block, (n - 1) // 2, n // 2 + 1)
        return _mean(middle)


def _mean(rows: Codes) -> Aggregate:
    total = np.add.reduce(rows, axis=0, dtype=np.int32)
    out: Aggregate = (total / np.float32(len(rows))).astype(np.float32)
    return out
