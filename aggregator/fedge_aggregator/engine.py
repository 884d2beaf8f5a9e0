"""Runs a rule over column blocks, so that memory is bounded by the block and not by the updates."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .rules.rule import Aggregate, Codes, Rule, Weights

BLOCK_BYTES = 1 << 20  # fits a second-level cache


def aggregate(rule: Rule, rows: Sequence[Codes], weights: Weights) -> Aggregate:
    """The rule's aggregate (d,) of rows (n of (d,) int8) in grid units.

    Raises ValueError when there are fewer rows than the rule needs; the round waits before it comes to that.
    """
    if len(rows) < rule.minimum():
        raise ValueError(f"{len(rows)} updates, {type(rule).__name__} needs {rule.minimum()}")
    weights = rule.select(rows, np.asarray(weights, np.float64))
    d = len(rows[0])
    step = max(1, BLOCK_BYTES // len(rows))
    out = np.empty(d, np.float32)
    for start in range(0, d, step):
        block = np.stack([row[start : start + step] for row in rows])
        out[start : start + step] = rule.columns(block, weights)
    return out
