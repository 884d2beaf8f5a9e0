# SPDX-License-Identifier: Apache-2.0
"""What became of the labels of each asset since the start, for `status`."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from ..types import Label
from .label_values import describe
from .tag_labels import LASTS

logger = logging.getLogger(__name__)


class LabelCounts:
    """Counts of one asset, each kind with its last example."""

    def __init__(self) -> None:
        self.relabelled = self.unknown = self.malformed = self.contradictory = self.expired = self.skipped = 0
        self.examples: dict[str, str] = {}  # kind -> the last one
        self.problem: str | None = None  # why labels do not come
        self._strange = 0  # labels in a row that the model does not know

    def add(self, kind: str, example: str, count: int = 1) -> None:
        """Count labels of a kind that somebody should look at."""
        vars(self)[kind] += count
        self.examples[kind] = example[:300]

    def note(self, known: bool) -> None:
        """Note whether the model knows a label that came."""
        self._strange = 0 if known else self._strange + 1

    def state(self, asset: str, problem: str | None) -> None:
        """State (or with None: withdraw) that the asset's labels do not come, in the operator's words."""
        if problem and problem != self.problem:
            logger.warning("asset %s: no labels: %s", asset, problem)
        self.problem = problem

    def status(self, stored: int, unmatched: dict[str, int], last: Label | None) -> dict[str, Any]:
        """All of it as plain data. stored: labels of the asset in the file; last: the last one without samples."""
        return {
            "labels": stored,
            "relabelled": self.relabelled,
            "waiting": unmatched["waiting"],
            "unmatched": unmatched["unmatched"],
            "unknown": self.unknown,
            "malformed": self.malformed,
            "contradictory": self.contradictory,
            "expired": self.expired,
            "skipped": self.skipped,
            "examples": {**self.examples, **({"unmatched": describe(last)} if last else {})},
            "problem": self.problem or self._unknown_problem() or _unmatched(stored, unmatched, last),
        }

    def _unknown_problem(self) -> str | None:
        if self._strange < LASTS:
            return None
        return f"the last {self._strange} were ones that the model does not know: {self.examples['unknown']}"


def _unmatched(stored: int, found: Mapping[str, int], last: Label | None) -> str | None:
    """A problem when no stored label fits a window, of ten or more."""
    if found["unmatched"] < max(LASTS, stored) or last is None:
        return None
    return f"none of {stored:,} labels is of a time or part of which there are windows: {describe(last)}"
