# SPDX-License-Identifier: Apache-2.0
"""Add a card's derived channels to windows. Pure.

Gaps are bridged before. A derived channel that depends on a channel without any value counts as 0, as that one does. A
window for which a formula gives a value that is not finite (a division by zero, the logarithm of a negative number) is
reported: no model may see it.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .card import Card
from .derive.program import Program, Values

LARGEST = float(np.finfo(np.float32).max)  # what a graph can take
SURE = 1e76  # sum of squares of values of which none is larger


class DerivedChannels:
    """Makes the channels of a graph's input from those that are measured."""

    def __init__(self, card: Card) -> None:
        planned, used = card.formulas, card.input_channels
        self._measured = [i for i, c in enumerate(card.channels) if c.input]
        self._program = Program([c.name for c in card.channels], planned)
        self._rows = len(used) - (card.numbers if card.features else 0)  # the others are numbers beside the features
        self._numbers = len(used) - self._rows
        places = {c.name: i for i, c in enumerate(used)}
        self._places = [places.get(f.name) for f in planned]
        self._names = [c.name for c in used]
        self.undefined: tuple[str, ...] = ()  # derived channels of the last windows that had a value that is none

    def __call__(
        self, windows: Values, absent: NDArray[np.bool_] | None
    ) -> tuple[Values, Values, NDArray[np.bool_] | None]:
        """Return the rows (..., rows, length) and the numbers (..., numbers) of windows (..., channels, length), and
        which windows (...) have a value that is not finite; None: none has. Those windows are zero.

        absent: (..., channels) those that have no value at all.
        """
        lead, length, measured = windows.shape[:-2], windows.shape[-1], len(self._measured)
        kind = np.float64 if windows.dtype == np.float64 else np.float32
        rows = np.empty((*lead, self._rows, length), kind)
        numbers = np.empty((*lead, self._numbers), kind)
        rows[..., :measured, :] = windows if measured == windows.shape[-2] else windows[..., self._measured, :]
        out = [None if i is None else self._view(rows, numbers, i) for i in self._places]
        self._program(windows, out, absent)
        self.undefined = ()
        if self._may_be_wrong(rows, numbers):
            return rows, numbers, self._wrong(rows, numbers)
        return rows, numbers, None

    def _may_be_wrong(self, rows: Values, numbers: Values) -> bool:
        """Whether a derived value is not finite, or so large that it may be none in float32."""
        derived = rows[..., len(self._measured) :, :]
        with np.errstate(over="ignore", invalid="ignore"):
            squares = float(np.vdot(derived, derived))
            return not (squares + float(np.vdot(numbers, numbers)) if self._numbers else squares) < SURE

    def _view(self, rows: Values, numbers: Values, i: int) -> Values:
        return rows[..., i, :] if i < self._rows else numbers[..., i - self._rows, None]

    def _wrong(self, rows: Values, numbers: Values) -> NDArray[np.bool_] | None:
        """Find the windows (...) with a value that is not finite, and make them zero; None: there is none."""
        first = len(self._measured)
        good = (np.abs(rows[..., first:, :]) <= LARGEST).all(axis=-1)
        found = ~np.concatenate([good, np.abs(numbers) <= LARGEST], axis=-1)
        at = np.logical_or.reduce(found.reshape(-1, found.shape[-1]), axis=0)
        self.undefined = tuple(name for name, bad in zip(self._names[first:], at, strict=True) if bad)
        if not at.any():
            return None
        wrong: NDArray[np.bool_] = np.logical_or.reduce(found, axis=-1)
        rows[wrong] = 0
        numbers[wrong] = 0
        return wrong
