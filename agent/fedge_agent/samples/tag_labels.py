# SPDX-License-Identifier: Apache-2.0
"""Count the labels of a tag or column that the model does not know, such as a misspelt one; a problem where it lasts.

Pure. Leaves to others what a label means (`label_values`).
"""

from __future__ import annotations

from typing import Any

from fedge_models.graph.card import Card
from fedge_models.system.choices import near_names
from fedge_models.system.text import printable

from .label_values import accepted_values

LASTS = 10  # windows in a row
SHOWN = 40  # characters of a label


class TagLabels:
    """The labels of one asset's windows."""

    def __init__(self) -> None:
        self.unknown = self._running = 0
        self._example = ""

    def take(self, value: float | str, known: bool, card: Card) -> None:
        """Note the label of a window, and whether the model knows it."""
        if known:
            self._running = 0
            return
        self.unknown += 1
        self._running += 1
        text = value if isinstance(value, str) else f"{value:g}"
        near = near_names(text, card.labels, 1, 0.5) if card.task == "classify" else []
        meant = f", did you mean {near[0]!r}?" if near else ""
        self._example = f"{printable(text[:SHOWN])!r}: expected {accepted_values(card)}{meant}"

    def status(self) -> dict[str, Any]:
        """For the status page."""
        lasts = self._running >= LASTS
        problem = f"the last {self._running} windows had labels that the model does not know, {self._example}"
        return {"unknown": self.unknown, "example": self._example, "problem": problem if lasts else None}
