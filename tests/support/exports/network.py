# SPDX-License-Identifier: Apache-2.0
"""One network of the table: how it is made, what it takes, and the card that a user would write for it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

from fedge_models.graph.card import Card, Channel, ImageSpec, Target, WindowSpec

FEATURES = ("mean", "std", "max")  # of each channel, where a network takes a table
LABELS = ("ok", "worn", "blocked")
Kind = Literal["table", "wave", "series", "picture"]


class Network(NamedTuple):
    """A network for samples of `shape`.

    kind: `table` (features), `wave` (channels, time), `series` (time, channels) or `picture` (colours, height, width).
    """

    kind: Kind
    shape: tuple[int, ...]
    make: Callable[[], Any]
    outputs: int = 0  # regress: how many targets; -1: the input again (anomaly); 0: classify
    shared: tuple[str, ...] = ()
    labels: tuple[str, ...] = LABELS
    gives: str = "logits"  # or probabilities
    rows: int = 6  # that it is tried with
    head: str = ""  # globs over initializers; empty: the module of the last parameter
    several: bool = False  # of the labels may hold at once

    def card(self) -> Card:
        """The card as its user would write it."""
        channels = tuple(Channel(f"c{i}") for i in range(self._channels()))
        window = WindowSpec(1, 1, 1) if self.kind == "picture" else WindowSpec(100, self._length(), self._length())
        task: Any = {0: "classify", -1: "anomaly"}.get(self.outputs, "regress")
        task = "multilabel" if self.several else task
        return Card(
            task,
            channels,
            window,
            features=FEATURES if self.kind == "table" else (),
            labels=self.labels if self.outputs == 0 else (),
            targets=tuple(Target(f"t{i}") for i in range(max(0, self.outputs))),
            shared=self.shared,
            image=self._image(),
        )

    def sample(self) -> tuple[int, ...]:
        """The shape of what a gateway gives: a window is (channels, time), whatever the network takes."""
        return self.shape[::-1] if self.kind == "series" else self.shape

    def _channels(self) -> int:
        if self.kind == "table":
            return self.shape[0] // len(FEATURES)
        return {"wave": self.shape[0], "series": self.shape[-1], "picture": 1}[self.kind]

    def _length(self) -> int:
        return {"table": 64, "wave": self.shape[-1], "series": self.shape[0], "picture": 1}[self.kind]

    def _image(self) -> ImageSpec | None:
        if self.kind != "picture":
            return None
        colours, height, width = self.shape
        return ImageSpec(height, width, "rgb" if colours == 3 else "grey")
