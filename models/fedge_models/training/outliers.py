# SPDX-License-Identifier: Apache-2.0
"""Find wild rows: samples with a value so far from all others that only a fault of the measurement explains it. Pure.

One reading of 1e6 among thousands of readings around 1 widens a standard deviation a thousand times, and every later
fault looks small. Wild is what lies `REACH` times further from the median than nearly all values do, and further than
the channel's own level: a value that is merely rare is not wild. Where there is no such value nothing changes.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..graph.card import Card
from ..ops.operator import Array

# A state that takes a smaller share of the time lies at the clip of 8 standard deviations (`standardise`) whether it
# counts for the scale or not: sqrt((1 - share) / share) > 8.
SHARE = 1 / 65
REACH = 10.0  # times the distance of the furthest value that is not rare; for Gaussian values 24 standard deviations
SMALLEST = 1000.0  # reach of a channel that is zero but for rare values, in its unit: nothing else shows its scale
HABIT = 0.25  # a larger share of the rows is no accident
FAR = 1000.0  # times the usual distance from the median: no machine does that
FEW = 100  # rows; fewer show no share
SAMPLE = 1 << 18  # values of a column that are looked at for the median and the reach


class Bounds(NamedTuple):
    """Between which the values of each column are plausible; a column is a feature, or a channel of raw windows."""

    low: Array  # (columns,)
    high: Array  # (columns,)

    def plausible(self, x: NDArray[Any]) -> NDArray[np.bool_]:
        """Return which rows (n,) of x (n, columns, ...) count; all of them where more than `HABIT` would not."""
        inside, finite = self._rows(x), finite_rows(x)
        wild = int(np.count_nonzero(finite & ~inside))
        return finite if wild > HABIT * len(x) else finite & inside

    def clip(self, x: NDArray[Any]) -> NDArray[Any]:
        """Clip the values of x (n, columns, ...) to their bounds; x itself where none lies beyond."""
        if not len(x) or self._rows(x).all():
            return x
        return np.clip(x, *self._shaped(x))

    def _rows(self, x: NDArray[Any]) -> NDArray[np.bool_]:
        low, high = self._shaped(x)
        inside: NDArray[np.bool_] = np.logical_and(x >= low, x <= high)
        return np.logical_and.reduce(inside, axis=tuple(range(1, x.ndim)))

    def _shaped(self, x: NDArray[Any]) -> tuple[Array, Array]:
        shape = (-1,) + (1,) * (x.ndim - 2)
        return self.low.reshape(shape), self.high.reshape(shape)


def bounds(x: NDArray[Any], card: Card | None = None) -> Bounds:
    """Return the bounds of each column of x (n, columns, ...), before standardisation.

    One reading may lie in as many windows as overlap, so that many rows may be wild even when there are few.
    """
    columns = x.shape[1]
    overlap = 1 if card is None or x.ndim > 2 else -(-card.window.length // card.window.hop)
    step = max(1, x.size // columns // SAMPLE)
    medians, bases = np.zeros(columns), np.zeros(columns)
    for column in range(columns):
        values = x[::step, column].astype(np.float64).ravel()
        values = values[np.isfinite(values)]
        if len(values):
            medians[column], bases[column] = _centre(values, overlap)
    level = _level(np.abs(medians), card)
    reach = np.maximum(REACH * bases, level)
    reach[(bases == 0) & (level == 0)] = SMALLEST
    largest = float(np.finfo(np.float32).max)
    low, high = (np.clip(v, -largest, largest).astype(np.float32) for v in (medians - reach, medians + reach))
    return Bounds(low, high)


def finite_rows(x: NDArray[Any]) -> NDArray[np.bool_]:
    """Return which rows (n,) of x (n, ...) hold finite values only."""
    finite: NDArray[np.bool_] = np.isfinite(x).all(axis=tuple(range(1, x.ndim)))
    return finite


def doubtful(x: NDArray[Any], card: Card) -> list[str]:
    """Return the channels of which more than a few values lie far from all others, such as -9999 for a missing value.

    They are too many to be wild, so they count, and hide what is less far: a person has to say what they mean.
    """
    owners = card.owners(x.shape[1])
    if x.dtype.kind != "f" or not len(x) or owners is None:
        return []
    step = max(1, x.size // x.shape[1] // SAMPLE)
    columns = [x[::step, column].astype(np.float64).ravel() for column in range(x.shape[1])]
    columns = [values[np.isfinite(values)] for values in columns]
    medians = np.array([np.median(values) if len(values) else 0.0 for values in columns])
    level = _level(np.abs(medians), card)
    far = [
        owner
        for owner, values, median, least in zip(owners, columns, medians, level, strict=True)
        if len(values) >= FEW and _is_far(np.abs(values - median), least)
    ]
    return [c.name for i, c in enumerate(card.input_channels) if i in far]


def _is_far(distances: NDArray[np.float64], level: float) -> bool:
    """Whether the rare end of distances (n,) from the median is of another order than the usual ones."""
    usual, rare = np.quantile(distances, [0.5, 1 - SHARE])
    return bool(rare > FAR * usual and rare > max(10 * level, SMALLEST))


def _centre(values: NDArray[np.float64], overlap: int) -> tuple[float, float]:
    """Median of values (n,), and how far the furthest one that is not rare lies from it."""
    median = float(np.median(values))
    rare = min(max(int(len(values) * SHARE), overlap), len(values) // 4)
    distances = np.abs(values - median)
    return median, float(np.partition(distances, len(values) - 1 - rare)[len(values) - 1 - rare])


def _level(medians: NDArray[np.float64], card: Card | None) -> NDArray[np.float64]:
    """The largest median of each column's channel: a set point that seldom changes is not wild when it does."""
    owners = card.owners(len(medians)) if card is not None else None
    if owners is None or not len(owners):
        return medians
    highest = np.zeros(owners[-1] + 1)
    np.maximum.at(highest, owners, medians)
    return highest[owners]
