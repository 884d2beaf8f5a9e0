# SPDX-License-Identifier: Apache-2.0
"""Count the labels of a tag or column that the model does not know, such as a misspelt one; a problem where it lasts.

They are counted where they are read, whether or not a window with them is ever decided on. Pure. Leaves to others what
a label means (`label_values`).
"""

from __future__ import annotations

from typing import Any

from fedge_models.graph.card import Card
from fedge_models.system.choices import near_names
from fedge_models.system.text import printable

from .label_values import accepted_values, as_text

LASTS = 10  # labels, or windows, in a row
SHOWN = 40  # characters of a label


class TagLabels:
    """The labels of one asset's tags, and of its windows."""

    def __init__(self) -> None:
        self.unknown = self._labels = self._windows = 0  # the last two: in a row
        self.example = ""

    def read(self, value: float | str, known: bool, card: Card) -> None:
        """Note a label that a tag gave, and whether the model knows it."""
        if known:
            self._labels = self._windows = 0
            return
        self.unknown += 1
        self._labels += 1
        text = as_text(value)
        near = near_names(text, card.labels, 1, 0.5) if card.task in ("classify", "multilabel") else []
        meant = f", did you mean {near[0]!r}?" if near else ""
        self.example = f"{printable(text[:SHOWN])!r}: expected {_expected(card)}{meant}"

    def window(self, known: bool) -> None:
        """Note whether the model knows the label of a window: a tag that is sent on change lasts so."""
        self._windows = 0 if known else self._windows + 1

    def status(self) -> dict[str, Any]:
        """For the status page."""
        count, what = max((self._labels, "labels were ones"), (self._windows, "windows had labels"))
        problem = f"the last {count} {what} that the model does not know, {self.example}"
        return {"unknown": self.unknown, "example": self.example, "problem": problem if count >= LASTS else None}


def _expected(card: Card) -> str:
    return "a number" if len(card.targets) > 1 else accepted_values(card)
