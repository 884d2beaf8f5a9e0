# SPDX-License-Identifier: Apache-2.0
"""The weighted mean."""

from __future__ import annotations

from typing import ClassVar

from .rule import Gram, WeightRule, Weights


class FedAvg(WeightRule, frozen=True, forbid_unknown_fields=True):
    """Federated averaging by (capped) sample counts: McMahan et al. 2017.

    Breakdown point 0: a single hostile node moves the mean at will (within the grid's ±127 steps).
    """

    compares: ClassVar[bool] = False
    drift: ClassVar[float] = 1.0

    def minimum(self) -> int:
        """One."""
        return 1

    def holds(self, n: int) -> int:
        """None."""
        return 0

    def select(self, gram: Gram, weights: Weights) -> Weights:
        """The shares of the sample counts."""
        return weights / weights.sum()
