# SPDX-License-Identifier: Apache-2.0
"""BatchNormalization (Ioffe & Szegedy 2015), a few channels at a time, so that all passes over them stay in the cache.

Values are (channels, positions), the batch last; sums over positions are products with a vector of ones, a tenth of
a reduction's time. Nothing is kept for the backward pass but the input, and the output where Relu is fused.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from .layout import batch_first, in_batch_last
from .operator import Array, Backprop, Grads, Node

BLOCK = 1 << 16  # values at a time


def batch_normalization(
    node: Node, x: Array, scale: Array, bias: Array, mean: Array, variance: Array
) -> tuple[Array, Backprop]:
    """ONNX BatchNormalization of x (batch, channels, ...) by the running statistics, and Relu where it is fused.

    With `batch_norm = "updated"` on the card, training normalises by the batch's own statistics and moves the running
    ones towards them by 1 - `momentum`, in place, with the variance of a sample (n - 1), as PyTorch does.
    """
    epsilon = x.dtype.type(node.attr("epsilon", 1e-5))
    values = in_batch_last(node, x)
    rows = values.reshape(len(values), -1)
    own = node.updates_statistics and node.rng is not None
    centre, spread = _statistics(node, rows) if own else (mean, np.maximum(variance, 0))
    inverse = 1 / np.sqrt(spread + epsilon)
    if own:
        _follow(node, rows.shape[1], (centre, spread), (mean, variance))
    y, relu = node.workspace.array(rows.shape, x.dtype), node.follows("Relu") is not None
    factor, zeros = scale * inverse, node.workspace.zeros(rows.shape[1], x.dtype)
    for part in _blocks(rows):
        made = np.subtract(rows[part], centre[part, None], out=y[part])
        np.multiply(made, factor[part, None], out=made)
        np.add(made, bias[part, None], out=made)
        if relu:
            np.maximum(made, zeros, out=made)

    def backprop(dy: Array) -> Grads:
        slopes = in_batch_last(node, dy).reshape(rows.shape)
        dx, ds, db = _through(node, slopes, rows, (centre, inverse, factor), y if relu else None, own)
        dm = dv = None
        if any(node.wanted[3:]) and not node.updates_statistics:  # a mean or variance that the graph computes
            dm, dv = -db * factor, -ds * factor * inverse / 2
        whole = None if dx is None else batch_first(dx.reshape(values.shape))
        return (whole, ds, db, dm, dv)

    return batch_first(y.reshape(values.shape)), backprop


def _through(
    node: Node, slopes: Array, rows: Array, known: tuple[Array, Array, Array], y: Array | None, own: bool
) -> tuple[Array | None, Array, Array]:
    """Return the gradients by input (channels, positions), scale and bias (channels,).

    known: centre, inverse of the spread, and its product with the scale. y: the output, where Relu is fused.
    `own`: the statistics are those of the batch, so its gradients by them are propagated too.
    """
    centre, inverse, factor = known
    dx = node.workspace.array(rows.shape, rows.dtype) if node.needs(0) else None
    ds, db = np.empty_like(factor), np.empty_like(factor)
    ones, share = np.ones(rows.shape[1], rows.dtype), rows.dtype.type(1 / rows.shape[1])
    for part in _blocks(rows):
        dz = slopes[part]
        if y is not None:
            dz = np.multiply(dz, y[part] > 0)
        np.matmul(dz, ones, out=db[part])
        normal = np.subtract(rows[part], centre[part, None])
        np.multiply(normal, inverse[part, None], out=normal)
        np.matmul(dz[:, None, :], normal[:, :, None], out=ds[part, None, None])
        if dx is None:
            continue
        if own:
            np.multiply(normal, (ds[part] * share)[:, None], out=normal)
            np.subtract(dz, normal, out=dx[part])
            np.subtract(dx[part], (db[part] * share)[:, None], out=dx[part])
            dz = dx[part]
        np.multiply(dz, factor[part, None], out=dx[part])
    return dx, ds, db


def _statistics(node: Node, rows: Array) -> tuple[Array, Array]:
    """Return mean and variance of each channel (channels,)."""
    ones = np.full(rows.shape[1], 1 / rows.shape[1], rows.dtype)
    mean = np.matmul(rows, ones)
    variance = np.empty_like(mean)
    for part in _blocks(rows):
        centred = rows[part] - mean[part, None]
        np.matmul(centred[:, None, :], centred[:, :, None], out=variance[part, None, None])
    return mean, variance * rows.dtype.type(1 / rows.shape[1])


def _blocks(rows: Array) -> Iterator[slice]:
    """Yield slices of channels that have about BLOCK values together."""
    count = max(1, BLOCK // max(1, rows.shape[1]))
    for first in range(0, len(rows), count):
        yield slice(first, first + count)


def _follow(node: Node, count: int, batch: tuple[Array, Array], running: tuple[Any, Any]) -> None:
    """Move the running statistics towards the batch's."""
    momentum = batch[0].dtype.type(node.attr("momentum", 0.9))
    unbiased = batch[0].dtype.type(count / max(1, count - 1))
    for own, place, factor in zip(batch, running, (1, unbiased), strict=True):
        place[...] = momentum * place + (1 - momentum) * factor * own
