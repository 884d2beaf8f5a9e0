"""The contract of an aggregation rule.

A rule looks at rows (n, d), the nodes' int8 codes on one common grid, and gives the aggregate (d,) float32 in grid
units. It never holds them all: what it has to know of whole rows it reads from their Gram matrix (`select`, pure, n x n
only), the rest it does column block by column block (`columns`), so that the engine may run it in threads or on other
machines. After mixing (`mixing.py`) rows are wider whole numbers, in a unit that the engine takes care of.

Order statistics and sums of whole numbers are exact, and `select` sees the same matrix whatever computed it: no rule's
result depends, by a bit, on the blocks, threads or machines.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Protocol

import msgspec
import numpy as np
from msgspec import Meta
from numpy.typing import NDArray

from .combine import combine

Block = NDArray[Any]  # (n, w) int8; after mixing int16 or int32
Weights = NDArray[np.float64]
Gram = NDArray[np.float64]
Aggregate = NDArray[np.float32]

Count = Annotated[int, Meta(ge=0, le=10_000)]
Share = Annotated[float, Meta(gt=0, lt=0.5)]
Byzantine = Count | Share  # f: how many of the n nodes may be hostile, at most; below 1: what share of them

NETWORK_ROWS = 128  # up to here sorted row by row; with more, a row of a block is too short for a call of its own


class Rule(Protocol):
    """One rule with its parameters: a frozen struct, built from the configuration."""

    compares: ClassVar[bool]  # `select` looks at the Gram matrix; otherwise it is handed one of shape (0, 0)
    reference: ClassVar[
        bool
    ]  # the Gram matrix's last row is the previous aggregate's, its last weight that row's share
    linear: ClassVar[bool]  # the aggregate is the weighted sum of the rows: `columns` is `combine`

    @property
    def pairs(self) -> bool:
        """Where it compares: whether rows with each other; otherwise it sees how long they are, and the reference.

        The matrix then has zeros elsewhere.
        """

    def minimum(self) -> int:
        """The smallest n for which the rule holds what it promises."""

    def alone(self, n: int) -> bool:
        """Whether `columns` of n rows is calls so short that threads lose more by taking turns than they gain."""

    def select(self, gram: Gram, weights: Weights) -> Weights:
        """Weights (n,), or (n + 1,) with a reference, after looking at whole rows; 0 leaves a row out.

        gram: inner products (n, n), in squared grid steps, exact; weights: the (capped) sample counts (n,) > 0.
        """

    def columns(self, block: Block, weights: Weights) -> Aggregate:
        """The aggregate (w,) of a block of columns (n, w) under the selected weights (n,); the block may be spent."""


class ColumnRule(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Base of rules that judge each column by itself."""

    compares: ClassVar[bool] = False
    reference: ClassVar[bool] = False
    linear: ClassVar[bool] = False

    @property
    def pairs(self) -> bool:
        """Yes, where it compares."""
        return self.compares

    def alone(self, n: int) -> bool:
        """Where it sorts row by row."""
        return n <= NETWORK_ROWS

    def select(self, gram: Gram, weights: Weights) -> Weights:
        """All rows alike: a sample count is a claim, and must not buy a vote."""
        return np.ones(len(weights))


class WeightRule(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Base of rules that find a weight for each row, and sum."""

    compares: ClassVar[bool] = True
    reference: ClassVar[bool] = False
    linear: ClassVar[bool] = True

    @property
    def pairs(self) -> bool:
        """Yes, where it compares."""
        return self.compares

    def alone(self, n: int) -> bool:
        """Never: sums are few long calls."""
        return False

    def columns(self, block: Block, weights: Weights) -> Aggregate:
        """The weighted sum."""
        return combine(block, weights)


def needed(byzantine: Byzantine, times: int, more: int) -> int:
    """The smallest n of a rule that holds f hostile of n >= times * f + more; for a share: for which it is defined."""
    return times * byzantine + more if isinstance(byzantine, int) else more


def hostile(byzantine: Byzantine, n: int, times: int, more: int) -> int:
    """f of n rows. A share is rounded, and never more than the rule can hold among so few."""
    return byzantine if isinstance(byzantine, int) else max(0, min(round(byzantine * n), (n - more) // times))


def squared_distances(gram: Gram) -> NDArray[np.float64]:
    """Squared Euclidean distances (n, n) between rows."""
    norms = np.diag(gram)
    distances: NDArray[np.float64] = np.maximum(norms[:, None] + norms[None, :] - 2 * gram, 0)
    return distances
