# SPDX-License-Identifier: Apache-2.0
"""Losses for many batches of rows in turn: what can be made for all of them at once is, before and after.

A step needs the gradient only. The loss itself is computed from the outputs of all batches together, at the end.
"""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np

from ..ops.operator import Array
from . import losses

SAFE_SQUARE = 70.0**2  # float32 holds exponentials of values between -70 and 70 with full precision
FEW = 64  # classes, up to which a product with a square of ones is faster than a sum over rows


class RowLoss(Protocol):
    """Gradients by the outputs of batches, one after the other, and their losses at the end."""

    def begin(self, targets: Any, outputs: Array, batch: int) -> None:
        """Start with the targets of the rows of all batches; outputs (rows, width): where they will be written."""

    def slope(self, start: int, stop: int, into: Array) -> None:
        """Write the gradient of the mean loss of the rows start to stop, one batch, by their outputs."""

    def total(self) -> float:
        """Return the sum over all batches of mean loss times rows."""


def of(loss: Any, factor: float, shape: tuple[int, ...]) -> RowLoss:
    """Return the fastest form of an objective's loss; gradients are multiplied by `factor`; shape: of one output."""
    if isinstance(loss, losses.CrossEntropy) and len(loss.table) <= FEW:
        return CrossEntropyRows(loss, factor)
    return SquaredRows(factor) if isinstance(loss, losses.SquaredError) else AnyRows(loss, factor, shape)


class CrossEntropyRows:
    """Softmax cross entropy towards the rows of a table, weighted as in `losses.CrossEntropy`."""

    def __init__(self, loss: losses.CrossEntropy, factor: float) -> None:
        self._table, self._weighted, self._factor = loss.table, loss.weighted, factor
        self._weights = loss.table.sum(axis=1)  # of a row by its class
        self._adding = np.ones((len(loss.table),) * 2, loss.table.dtype)  # a product with it: in each column the sum

    def begin(self, targets: Any, outputs: Array, batch: int) -> None:
        """targets: class indices (rows,)."""
        starts = np.arange(0, len(targets), batch)
        sizes = np.diff(starts, append=len(targets))
        totals = np.add.reduceat(self._weights.take(targets), starts) if self._weighted else sizes
        shares = (self._factor / totals).repeat(sizes).astype(outputs.dtype)[:, None]  # of a row in its batch
        self._outputs, self._aims = outputs, self._table.take(targets, axis=0)
        np.multiply(self._aims, shares, self._aims)
        self._shares = self._aims.dot(self._adding)  # of a row, with its own weight, in each column
        self._sums = np.empty((min(batch, len(targets)), outputs.shape[1]), outputs.dtype)
        self._sizes = sizes

    def slope(self, start: int, stop: int, into: Array) -> None:
        """Softmax minus aim. The usual shift by the maximum costs more than all the rest; it is left out where it may.

        It may where the values' squares or fourth powers add up to little, so that each value is small. NaN is not.
        """
        out, sums = self._outputs[start:stop], self._sums[: stop - start]
        flat = out.reshape(-1)
        if flat.dot(flat) < SAFE_SQUARE or _fourth(out, sums) < SAFE_SQUARE**2:
            np.exp(out, into)
        else:
            np.exp(out - out.max(axis=1, keepdims=True), into)
        into.dot(self._adding, sums)
        np.divide(self._shares[start:stop], sums, sums)
        np.multiply(into, sums, into)
        np.subtract(into, self._aims[start:stop], into)

    def total(self) -> float:
        """log(sum(exp)) minus the value aimed at, by the share of each row; sums over the short axis as products."""
        values = self._outputs.T.copy()
        most = values.max(axis=0)
        np.subtract(values, most, values)
        np.exp(values, values)
        logs = np.log(self._adding[0].dot(values)) + most
        each = self._shares[:, 0] * logs - (self._aims * self._outputs).dot(self._adding[0])
        batches = np.add.reduceat(each, np.cumsum(self._sizes) - self._sizes)
        return float(batches.dot(self._sizes)) / self._factor


def _fourth(out: Array, scratch: Array) -> float:
    flat = np.multiply(out, out, scratch).reshape(-1)
    return float(flat.dot(flat))


class SquaredRows:
    """Mean squared error over all values of a batch."""

    def __init__(self, factor: float) -> None:
        self._factor = factor

    def begin(self, targets: Any, outputs: Array, batch: int) -> None:
        """targets: as many values a row as there are outputs."""
        self._outputs, self._targets = outputs, targets.reshape(outputs.shape)

    def slope(self, start: int, stop: int, into: Array) -> None:
        """2 (output - target) / values."""
        np.subtract(self._outputs[start:stop], self._targets[start:stop], into)
        np.multiply(into, into.dtype.type(2 * self._factor / into.size), into)

    def total(self) -> float:
        """Mean over the values of a row, summed over the rows."""
        off = (self._outputs - self._targets).reshape(-1)
        return float(off.dot(off)) / self._outputs.shape[1]


class AnyRows:
    """A loss of `losses.py` that has no faster form."""

    def __init__(self, loss: Any, factor: float, shape: tuple[int, ...]) -> None:
        self._loss, self._factor, self._shape = loss, factor, shape

    def begin(self, targets: Any, outputs: Array, batch: int) -> None:
        """targets: what the loss takes, a row each."""
        self._outputs, self._targets, self._total = outputs, targets, 0.0

    def slope(self, start: int, stop: int, into: Array) -> None:
        """The gradient of the loss."""
        shape = (stop - start, *self._shape)
        loss, slope = self._loss(self._outputs[start:stop].reshape(shape), self._targets[start:stop])
        np.multiply(slope.reshape(into.shape), into.dtype.type(self._factor), into)
        self._total += loss * (stop - start)

    def total(self) -> float:
        """As added up."""
        return self._total
