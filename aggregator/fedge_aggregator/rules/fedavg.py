"""Weighted mean."""

from __future__ import annotations

from .rule import Aggregate, Codes, ColumnRule, Weights, mean


class FedAvg(ColumnRule, frozen=True, forbid_unknown_fields=True):
    """Federated averaging by (capped) sample counts: McMahan et al. 2017.

    Breakdown point 0: a single hostile node moves the mean at will (within the grid's ±127 steps).
    """

    def minimum(self) -> int:
        """One."""
        return 1

    def columns(self, block: Codes, weights: Weights) -> Aggregate:
        """Weighted mean."""
        return mean(block, weights)
