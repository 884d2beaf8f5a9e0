# SPDX-License-Identifier: Apache-2.0
"""Scale channels as the card says, `(value - centre) / scale`. The only place that does so.

It comes before features are computed and before a site standardises. Rows of features are made of scaled channels and
are not scaled again (`rows_in_card_scale`). Values that are not finite stay so; finite ones are at most `LARGEST`.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .card import Card

LARGEST = 1e30  # no quantity is larger in any unit


class CardScale:
    """Scales the channels of a card's input, in its order."""

    def __init__(self, card: Card) -> None:
        channels = card.input_channels
        self.given = any(c.scale is not None for c in channels)
        self._centre = np.array([[c.centre or 0.0] for c in channels])
        self._scale = np.array([[c.scale or 1.0] for c in channels])

    def __call__(self, rows: NDArray[Any], first: int = 0) -> NDArray[Any]:
        """Scale rows (..., channels, length), whose first channel is the input's channel `first`.

        They are returned as they are where the card scales none.
        """
        if not self.given:
            return rows
        part = slice(first, first + rows.shape[-2])
        with np.errstate(over="ignore", invalid="ignore"):
            made = np.subtract(rows, self._centre[part], out=np.empty_like(rows))  # in float64, whatever rows are
            made /= self._scale[part]
            return made if math.isfinite(np.add.reduce(made, axis=None)) else _bounded(made, rows)


def rows_in_card_scale(rows: NDArray[Any], card: Card) -> NDArray[Any]:
    """Rows (n, *input_shape) in the channels' units as the card scales them; features and pictures as they are."""
    scale = CardScale(card)
    if card.features or card.image is not None or not scale.given or not len(rows):
        return rows
    return scale(rows.reshape(len(rows), len(card.input_channels), -1)).reshape(rows.shape)  # (n, channels), too


def _bounded(made: NDArray[Any], rows: NDArray[Any]) -> NDArray[Any]:
    """Bound what overflowed in scaling."""
    over = np.isinf(made) & np.isfinite(rows)
    made[over] = np.copysign(LARGEST, made[over])
    return made
