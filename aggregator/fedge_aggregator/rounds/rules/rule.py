# SPDX-License-Identifier: Apache-2.0
"""The contract of an aggregation rule.

A rule gets rows (n, d), the nodes' int8 codes on one grid, and gives the aggregate (d,) float32 in grid units. It never
holds all rows: what it must know of whole rows it reads from their Gram matrix (`select`, pure, n x n numbers), the
rest it does in blocks of columns (`columns`), so that the engine may run it in threads or on other machines. After a
mixing (`mixing.py`) rows are wider whole numbers, in a unit that the engine handles.

Order statistics and sums of whole numbers are exact, and `select` gets the same matrix on every machine. So no bit of
a rule's result depends on blocks, threads or machines.
"""

from __future__ import annotations

import math
from typing import Annotated, Any, ClassVar, Protocol

import msgspec
import numpy as np
from msgspec import Meta
from numpy.typing import NDArray

from .combine import combine

Block = NDArray[Any]  # (n, w) int8; after a mixing int16 or int32
Weights = NDArray[np.float64]
Gram = NDArray[np.float64]
Aggregate = NDArray[np.float32]

Count = Annotated[int, Meta(ge=0, le=10_000)]
Share = Annotated[float, Meta(gt=0, lt=0.5)]
Byzantine = Count | Share  # f: how many of the n nodes may be hostile; below 1: which share of them

# What a release leaves out of honest updates, sites that take back all of their drift add again and again: under a rule
# that leaves out, training diverges.
HALF = 0.5
FEWEST = 7  # rows: with a share for f, fewer are neither mixed nor trimmed
MOST_SORTED = 128  # rows that a sorting network sorts; with more, the rows of a block are too short for a call each


class Rule(Protocol):
    """A rule with its parameters: a frozen struct, built from the configuration."""

    compares: ClassVar[bool]  # `select` uses the Gram matrix; otherwise it gets one of shape (0, 0)
    reference: ClassVar[bool]  # the last row of the Gram matrix, and the last weight, are the previous aggregate's
    linear: ClassVar[bool]  # the aggregate is the weighted sum of the rows: `columns` is `combine`
    drift: ClassVar[float]  # the most of its own drift that a site may take back under it

    @property
    def pairs(self) -> bool:
        """Whether a rule that compares uses inner products of different rows.

        Otherwise it uses the lengths of rows and the products with the reference; the matrix has zeros elsewhere.
        """

    def minimum(self) -> int:
        """The smallest n for which the rule keeps its promise."""

    def holds(self, n: int) -> int:
        """Against how many hostile rows of n it holds."""

    def alone(self, n: int) -> bool:
        """Whether `columns` of n rows makes such short calls that threads lose more by taking turns than they gain."""

    def select(self, gram: Gram, weights: Weights) -> Weights:
        """The weights (n,), or (n + 1,) with a reference, from whole rows; 0 leaves a row out.

        gram: inner products (n, n), in squared grid steps, exact; weights: the (capped) sample counts (n,) > 0.
        """

    def columns(self, block: Block, weights: Weights) -> Aggregate:
        """The aggregate (w,) of a block of columns (n, w) with the selected weights (n,); may overwrite the block."""


class ColumnRule(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Base of rules that treat each column on its own."""

    compares: ClassVar[bool] = False
    reference: ClassVar[bool] = False
    linear: ClassVar[bool] = False
    drift: ClassVar[float] = HALF

    @property
    def pairs(self) -> bool:
        """Yes, if it compares."""
        return self.compares

    def alone(self, n: int) -> bool:
        """For as many rows as a sorting network sorts."""
        return n <= MOST_SORTED

    def select(self, gram: Gram, weights: Weights) -> Weights:
        """The same weight for all rows: a sample count is a claim and must not buy a vote."""
        return np.ones(len(weights))


class WeightRule(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Base of rules that find a weight for each row, and sum the rows."""

    compares: ClassVar[bool] = True
    reference: ClassVar[bool] = False
    linear: ClassVar[bool] = True
    drift: ClassVar[float] = HALF

    @property
    def pairs(self) -> bool:
        """Yes, if it compares."""
        return self.compares

    def alone(self, n: int) -> bool:
        """Never: sums are few long calls."""
        return False

    def columns(self, block: Block, weights: Weights) -> Aggregate:
        """The weighted sum."""
        return combine(block, weights)


def needed(byzantine: Byzantine, times: int, more: int) -> int:
    """The smallest n of a rule that holds f hostile of n >= times * f + more; for a share: for which f is defined."""
    return times * byzantine + more if isinstance(byzantine, int) else more


def hostile(byzantine: Byzantine, n: int, times: int, more: int) -> int:
    """f of n rows. A share is rounded down, and never more than the rule can hold among n.

    Rounded up, 0.3 of five updates would cut 40 % off each end, and of three leave the median.
    """
    return byzantine if isinstance(byzantine, int) else max(0, min(stated(byzantine, n), (n - more) // times))


def stated(byzantine: Byzantine, n: int) -> int:
    """f of n rows as configured, a share rounded down, whatever a rule can hold."""
    return byzantine if isinstance(byzantine, int) else math.floor(byzantine * n + 1e-9)


def squared_distances(gram: Gram) -> NDArray[np.float64]:
    """Squared Euclidean distances (n, n) between rows."""
    norms = np.diag(gram)
    distances: NDArray[np.float64] = np.maximum(norms[:, None] + norms[None, :] - 2 * gram, 0)
    return distances
