"""The contract of an aggregation rule.

A rule looks at ``rows`` (n, d) int8, the nodes' codes on one common grid, and ``weights`` (n,) > 0, and gives the
aggregate (d,) float32 in grid units. Most rules work column by column, so the engine can run them block by block; a
rule that compares whole rows first says what it needs to know of them in `select`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import msgspec
import numpy as np
from numpy.typing import NDArray

Codes = NDArray[np.int8]
Weights = NDArray[np.float64]
Aggregate = NDArray[np.float32]
Blocks = Callable[[], "Sequence[Codes]"]


class Rule(Protocol):
    """One rule with its parameters: a frozen struct, built from the configuration."""

    def minimum(self) -> int:
        """The smallest n for which the rule holds what it promises."""

    def select(self, rows: Sequence[Codes], weights: Weights) -> Weights:
        """Weights (n,) after looking at whole rows; 0 leaves a row out. Most rules return what they are given."""

    def columns(self, block: Codes, weights: Weights) -> Aggregate:
        """The aggregate (d',) of a block of columns (n, d') under the selected weights."""


class ColumnRule(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Base of rules that need no whole rows."""

    def select(self, rows: Sequence[Codes], weights: Weights) -> Weights:
        """All rows, as they are."""
        return weights


def mean(block: Codes, weights: Weights) -> Aggregate:
    """Weighted mean of the columns of a block (n, d'), accumulated in float32 row by row."""
    share = (weights / weights.sum()).astype(np.float32)
    out: Any = np.zeros(block.shape[1], np.float32)
    for row, part in zip(block, share, strict=True):
        if part:
            out += part * row
    return out
