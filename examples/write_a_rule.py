# SPDX-License-Identifier: Apache-2.0
"""Write an aggregation rule: the middle of each coordinate's extremes.

In fedge this is a file in `aggregator/fedge_aggregator/rounds/rules/` and a line in its `registry.py`; the contract
tests find it there. Run it: it averages five updates of which one is hostile, beside the rules that there are.
"""

from __future__ import annotations

import numpy as np
from fedge_aggregator.rounds.engine import blocks
from fedge_aggregator.rounds.engine.update_rows import MemoryRows
from fedge_aggregator.rounds.rules.registry import RULES, build_pipeline
from fedge_aggregator.rounds.rules.rule import Aggregate, Block, ColumnRule, Weights


class Midrange(ColumnRule, frozen=True, forbid_unknown_fields=True):
    """The mean of the smallest and the largest value of each coordinate, after `trim` of each were left out.

    Breakdown point trim / n. It is here to show how a rule is written: `trimmed_mean` loses less.
    """

    trim: int = 1

    def minimum(self) -> int:
        """One more than what is left out."""
        return 2 * self.trim + 1

    def columns(self, block: Block, weights: Weights) -> Aggregate:
        """block: (n, w) whole numbers on one grid; weights: (n,), not used: a sample count is a claim."""
        ordered = np.sort(block, axis=0)
        return np.add(ordered[self.trim], ordered[-1 - self.trim], dtype=np.float32) * np.float32(0.5)


RULES["midrange"] = Midrange  # in fedge: the line in registry.py


def main() -> None:
    """Average five updates; the last is hostile."""
    honest = np.random.default_rng(0).integers(8, 13, (4, 6))
    updates = np.vstack([honest, np.full(6, -127)]).astype(np.int8)
    rows, weights = MemoryRows(list(updates)), np.ones(5)
    for table in ({"name": "midrange", "trim": 1}, {"name": "median"}, {"name": "fedavg"}):
        pipeline = build_pipeline(table, None, "example")
        print(table["name"], np.round(blocks.aggregate(pipeline, rows, weights), 1).tolist())


if __name__ == "__main__":
    main()
