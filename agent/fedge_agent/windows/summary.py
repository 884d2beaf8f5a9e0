# SPDX-License-Identifier: Apache-2.0
"""Two figures of each input column of a window: where its values lie, and how far they spread. Pure.

A column is a channel of a raw window, a feature of a channel, or of a picture its brightness, contrast and sharpness.
A feature, and a channel of a table, is one value a window: it has a location and no spread of its own.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from fedge_models.graph.card import Card
from fedge_models.graph.channels import channel_labels
from numpy.typing import NDArray

from ..types import Values
from .features import feature_names

Figures = NDArray[np.float64]
AT_ONCE = 256  # windows that are summarised at once: their float64 copy is small

COLOURS = ("red", "green", "blue")


class Column(NamedTuple):
    """One column of a model's input."""

    channel: str
    feature: str = ""  # "": the channel's values themselves

    def __str__(self) -> str:
        return f"{self.channel} ({self.feature})" if self.feature else self.channel


class Summary:
    """Summarises samples of this card and input shape, before standardisation."""

    def __init__(self, card: Card, shape: tuple[int, ...]) -> None:
        self._pictures = card.image is not None
        self.spreads = not self._pictures and len(shape) == 2 and shape[1] > 1  # windows have a spread of their own
        self.columns = _of_pictures(card, shape) if self._pictures else _columns(card, shape)

    def __call__(self, x: Values) -> tuple[Figures, Figures | None]:
        """Locations (n, columns) and spreads (n, columns) of samples (n, *shape); None: there are no spreads."""
        if len(x) > AT_ONCE:
            return self.of(x, np.arange(len(x)))
        if self._pictures:
            return _of_pixels(x), None
        if not self.spreads:
            return x.reshape(len(x), -1).astype(np.float64), None
        values = x.astype(np.float64)
        where = values.mean(axis=2)
        values -= where[:, :, None]
        return where, np.sqrt(np.einsum("nct,nct->nc", values, values) / values.shape[2])

    def of(self, x: Values, rows: NDArray[np.intp]) -> tuple[Figures, Figures | None]:
        """The same of some samples, without a copy of all."""
        parts = [self(x[rows[i : i + AT_ONCE]]) for i in range(0, max(1, len(rows)), AT_ONCE)]
        spreads = [spread for _, spread in parts if spread is not None]
        return np.concatenate([where for where, _ in parts]), np.concatenate(spreads) if spreads else None


def _of_pixels(x: NDArray[Any]) -> Figures:
    """Brightness of each plane, contrast and sharpness (n, planes + 2) of pictures (n, planes, height, width)."""
    x = x.astype(np.float32) / 255
    bright, grey = x.mean(axis=(2, 3)), x.mean(axis=1)
    edges = np.abs(np.diff(grey, axis=2)).mean(axis=(1, 2)) if grey.shape[2] > 1 else np.zeros(len(x), np.float32)
    found: Figures = np.column_stack([bright, grey.std(axis=(1, 2)), edges]).astype(np.float64)
    return found


def _of_pictures(card: Card, shape: tuple[int, ...]) -> tuple[Column, ...]:
    name = card.channels[0].name if card.channels else "picture"
    planes = [f"brightness of {c}" for c in COLOURS] if shape[0] == len(COLOURS) else ["brightness"]
    return tuple(Column(name, feature) for feature in (*planes, "contrast", "sharpness"))


def _columns(card: Card, shape: tuple[int, ...]) -> tuple[Column, ...]:
    """The columns of samples that are no pictures."""
    names, count = channel_labels(card.channels, card.derive), shape[0]
    owners = card.owners(count)
    if owners is None or not card.features:
        return tuple(Column(names[i] if len(names) == count else f"input {i + 1}") for i in range(count))
    features = feature_names(card.features)
    varying = len(names) - card.numbers
    return tuple(
        Column(names[owner], features[i % len(features)] if owner < varying else "") for i, owner in enumerate(owners)
    )
