"""Losses with their gradients: each returns (mean loss, gradient by the model's output)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .ops.operator import Array


def cross_entropy(logits: Array, labels: NDArray[np.int64], weights: Array | None = None) -> tuple[float, Array]:
    """Softmax cross entropy of logits (n, classes) for class indices (n,), weighted per class (classes,)."""
    shifted = logits - logits.max(axis=1, keepdims=True)
    grad = np.exp(shifted)
    total = grad.sum(axis=1, keepdims=True)
    grad /= total
    rows = np.arange(len(labels))
    losses = np.log(total[:, 0]) - shifted[rows, labels]
    grad[rows, labels] -= 1
    if weights is None:
        grad *= np.float32(1 / len(labels))
        return float(losses.mean()), grad
    each = weights[labels]
    share = each / each.sum()
    grad *= share[:, None]
    return float(losses @ share), grad


def cross_entropies(logits: Array, labels: NDArray[np.int64]) -> Array:
    """Softmax cross entropy of each row (n,)."""
    shifted = logits - logits.max(axis=1, keepdims=True)
    losses: Array = np.log(np.exp(shifted).sum(axis=1)) - shifted[np.arange(len(labels)), labels]
    return losses


def squared_error(y: Array, target: Array) -> tuple[float, Array]:
    """Mean squared error over all elements of y and target (n, ...)."""
    grad = y - target
    loss = float(np.dot(grad.ravel(), grad.ravel())) / grad.size
    grad *= np.float32(2 / grad.size)
    return loss, grad


def row_errors(y: Array, target: Array) -> Array:
    """Mean squared error of each row (n,): the anomaly score of a reconstruction."""
    rows = (y - target).reshape(len(y), -1)
    errors: Array = np.einsum("ij,ij->i", rows, rows) / np.float32(rows.shape[1])
    return errors
