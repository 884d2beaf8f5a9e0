# SPDX-License-Identifier: Apache-2.0
"""Compute losses with their gradients: each returns (mean loss, gradient by the model's output)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..ops.operator import Array

SAFE_LOG = 70.0  # largest |log| of a sum of exponentials that float32 holds with full precision


class CrossEntropy:
    """Softmax cross entropy in reused buffers: a third of the plain formula's time on small batches.

    `table` (classes, classes) holds the target row of each class times the weight of its loss: the unit matrix, a
    diagonal of class weights, or smoothed labels.
    """

    def __init__(self, table: Array, weighted: bool = False) -> None:
        self.table, self.weighted = table, weighted
        self._ones = np.ones(len(table), table.dtype)
        self._buffers: dict[int, tuple[Array, ...]] = {}

    def __call__(self, logits: Array, labels: NDArray[np.int64]) -> tuple[float, Array]:
        """Return (mean loss, gradient) for logits (n, classes) and class indices (n,).

        The next call overwrites the gradient. exp is computed without the usual shift by the maximum, which costs more
        than all the rest, and again with the shift when a row's sum of exponentials is above e^70, below e^-70 or NaN.
        """
        grad, aims, sums, logs, each = self._buffers.get(len(labels)) or self._room(len(labels))
        np.exp(logits, out=grad)
        grad.dot(self._ones, sums)
        np.log(sums, out=logs)
        if not logs.dot(logs) < SAFE_LOG**2:
            logits = logits - logits.max(axis=1, keepdims=True)
            np.exp(logits, out=grad)
            grad.dot(self._ones, sums)
            np.log(sums, out=logs)
        self.table.take(labels, axis=0, out=aims, mode="clip")
        total = float(len(labels))
        if self.weighted:
            aims.dot(self._ones, each)
            total = float(each.sum())
        np.divide(each, sums, out=sums)
        loss = (float(logs.dot(each)) - float(np.vdot(logits, aims))) / total
        np.multiply(grad, sums[:, None], out=grad)
        np.subtract(grad, aims, out=grad)
        np.multiply(grad, grad.dtype.type(1 / total), out=grad)
        return loss, grad

    def _room(self, n: int) -> tuple[Array, ...]:
        """Buffers for a batch of n; those of the last two sizes are reused."""
        shapes = [(n, len(self.table)), (n, len(self.table)), (n,), (n,), (n,)]
        found = tuple(np.ones(shape, self.table.dtype) for shape in shapes)
        self._buffers = {**dict(list(self._buffers.items())[-1:]), n: found}
        return found


def cross_entropies(logits: Array, labels: NDArray[np.int64]) -> Array:
    """Softmax cross entropy of each row (n,)."""
    shifted = logits - logits.max(axis=1, keepdims=True)
    losses: Array = np.log(np.exp(shifted).sum(axis=1)) - shifted[np.arange(len(labels)), labels]
    return losses


def squared_error(y: Array, target: Array, out: Array | None = None) -> tuple[float, Array]:
    """Mean squared error over all elements of y and target (n, ...); `out`: buffer for the gradient."""
    grad = np.subtract(y, target, out=out)
    flat = grad.reshape(-1)
    loss = float(flat.dot(flat)) / grad.size
    np.multiply(grad, grad.dtype.type(2 / grad.size), out=grad)
    return loss, grad


class SquaredError:
    """`squared_error` in a reused buffer."""

    def __init__(self) -> None:
        self._room: Array | None = None

    def __call__(self, y: Array, target: Array) -> tuple[float, Array]:
        """(mean loss, gradient) for y (n, ...) and a target of as many values."""
        if self._room is None or len(self._room) < len(y):
            self._room = np.empty(y.shape, y.dtype)
        return squared_error(y, target if target.shape == y.shape else target.reshape(y.shape), self._room[: len(y)])


def row_errors(y: Array, target: Array) -> Array:
    """Mean squared error of each row (n,): the anomaly score of a reconstruction."""
    rows = (y - target).reshape(len(y), -1)
    errors: Array = np.einsum("ij,ij->i", rows, rows) / np.float32(rows.shape[1])
    return errors


def adjusted_cross_entropy(
    logits: Array,
    labels: NDArray[np.int64],
    weights: Array | None = None,
    offset: Array | None = None,
    smoothing: float = 0.0,
) -> tuple[float, Array]:
    """Cross entropy of `logits + offset` (classes,), the labels smoothed towards uniform (Szegedy et al. 2016).

    An offset of log prior is the logit adjustment of Menon et al. (2021). -inf removes a class from the softmax (no
    loss, no gradient) and from the smoothing.
    """
    moved = logits if offset is None else logits + offset
    shifted = moved - moved.max(axis=1, keepdims=True)
    p = np.exp(shifted)
    total = p.sum(axis=1, keepdims=True)
    p /= total
    shifted -= np.log(total)  # log p
    present = np.ones(logits.shape[1], bool) if offset is None else np.isfinite(offset)
    wanted = np.zeros_like(p)
    wanted[:, present] = smoothing / present.sum()
    wanted[np.arange(len(labels)), labels] += 1 - smoothing
    losses = -np.einsum("ij,ij->i", wanted[:, present], shifted[:, present])
    p -= wanted
    return _averaged(losses, p, labels, weights)


def focal(logits: Array, labels: NDArray[np.int64], gamma: float, weights: Array | None = None) -> tuple[float, Array]:
    """-(1 - p)^gamma log p of the true class (Lin et al. 2017): rows that are easy already count little."""
    log_p = -cross_entropies(logits, labels)
    p = np.exp(log_p)
    miss = np.maximum(1 - p, 1e-12)  # 0 to a power below 1 has no gradient
    losses = -(miss**gamma) * log_p
    slope = miss**gamma - gamma * p * miss ** (gamma - 1) * log_p
    grad = np.exp(logits - logits.max(axis=1, keepdims=True))
    grad /= grad.sum(axis=1, keepdims=True)
    grad[np.arange(len(labels)), labels] -= 1
    grad *= slope[:, None]
    return _averaged(losses, grad, labels, weights)


def _averaged(losses: Array, grad: Array, labels: NDArray[np.int64], weights: Array | None) -> tuple[float, Array]:
    """Average over the rows, weighted per class where there are weights and divided by their sum."""
    if weights is None:
        grad *= np.asarray(1 / len(labels), grad.dtype)
        return float(losses.mean()), grad
    share = weights[labels] / weights[labels].sum()
    grad *= share[:, None]
    return float(losses @ share), grad


class BinaryCrossEntropy:
    """Sigmoid cross entropy of each label by itself, from logits, in reused buffers.

    weights (2, labels): of the loss where a label is absent, and where it is present; smoothing: how far targets of 0
    and 1 are moved towards one half (Szegedy et al. 2016).
    """

    def __init__(self, weights: Array | None, smoothing: float = 0.0) -> None:
        self._weights, self._smoothing = weights, smoothing
        self._room: tuple[Array, ...] | None = None

    def __call__(self, logits: Array, labels: Array) -> tuple[float, Array]:
        """Return (mean loss over rows and labels, gradient) for logits and labels of 0 and 1, both (n, labels).

        With e = exp(-|z|), the sigmoid is 1 / (1 + e) or e / (1 + e), and the loss max(z, 0) - t z + log(1 + e):
        nothing overflows. The next call overwrites the gradient.
        """
        if self._room is None or len(self._room[0]) < len(logits):
            self._room = tuple(np.empty(logits.shape, logits.dtype) for _ in range(4))
        grad, small, each, aims = (room[: len(logits)] for room in self._room)
        np.multiply(labels, 1 - self._smoothing, out=aims, casting="same_kind")
        aims += aims.dtype.type(self._smoothing / 2)
        np.abs(logits, out=small)
        np.exp(np.negative(small, out=small), out=small)
        np.log1p(small, out=each)
        each += np.maximum(logits, 0, out=grad)
        each -= np.multiply(logits, aims, out=grad)
        np.copyto(grad, small)
        np.copyto(grad, 1, where=logits >= 0)
        grad /= np.add(small, 1, out=small)
        grad -= aims
        if self._weights is not None:
            weights = np.where(labels > 0, self._weights[1], self._weights[0])
            each *= weights
            grad *= weights
        grad *= grad.dtype.type(1 / grad.size)
        return float(each.mean()), grad


def binary_cross_entropies(logits: Array, labels: Array) -> Array:
    """Sigmoid cross entropy of each row (n,), the mean over its labels (n, labels)."""
    each = np.maximum(logits, 0) - logits * labels + np.log1p(np.exp(-np.abs(logits)))
    losses: Array = each.mean(axis=1).astype(np.float32)
    return losses


def huber(y: Array, target: Array, delta: float) -> tuple[float, Array]:
    """d^2 / 2 up to |d| = delta, then delta (|d| - delta / 2) (Huber 1964); the mean over all elements."""
    difference = y - target
    inner = np.clip(difference, -delta, delta)
    loss = float((inner * (difference - inner / 2)).mean())
    inner *= np.asarray(1 / inner.size, inner.dtype)
    return loss, inner


def pinball(y: Array, target: Array, quantile: float) -> tuple[float, Array]:
    """The loss that the conditional quantile minimises (Koenker & Bassett 1978); the mean over all elements.

    An estimate that is too low costs `quantile` per unit, one that is too high 1 - `quantile`.
    """
    difference = y - target
    slope: Array = np.where(difference > 0, 1 - quantile, -quantile).astype(difference.dtype)
    loss = float((slope * difference).mean())
    slope *= np.asarray(1 / slope.size, slope.dtype)
    return loss, slope
