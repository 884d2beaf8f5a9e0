# SPDX-License-Identifier: Apache-2.0
"""Choose by value: the largest entries, where they are, and what a condition names."""

from __future__ import annotations

from typing import Any

import numpy as np

from .arithmetic import no_gradient
from .operator import Array, Backprop, Grads, Node, Operator
from .shape import Ints


def top_k(node: Node, x: Array, k: Ints) -> tuple[tuple[Array, Ints], Backprop]:
    """The k largest (or smallest) entries along `axis` (-1) in their order, and where they are."""
    axis, count = node.attr("axis", -1), int(np.asarray(k).reshape(()))
    if node.attr("largest", 1):  # backwards, so that a stable sort leaves the first of equal ones in front
        order = x.shape[axis] - 1 - np.flip(np.argsort(np.flip(x, axis), axis=axis, kind="stable"), axis)
    else:
        order = np.argsort(x, axis=axis, kind="stable")
    at = order.take(np.arange(count), axis)

    def backprop(dys: Any) -> Grads:
        if dys[0] is None:
            return (None, None)
        dx = np.zeros(x.shape, dys[0].dtype)
        np.put_along_axis(dx, at, dys[0], axis)
        return (dx, None)

    return (np.take_along_axis(x, at, axis), at), backprop


def position_of(largest: bool) -> Operator:
    """Make the operator for the position of the largest (or smallest) entry along `axis` (0): no gradient."""

    def run(node: Node, x: Array) -> tuple[Any, Backprop]:
        axis, last = node.attr("axis", 0), bool(node.attr("select_last_index", 0))
        lines = np.flip(x, axis) if last else x
        at = (np.argmax if largest else np.argmin)(lines, axis=axis, keepdims=bool(node.attr("keepdims", 1)))
        return (x.shape[axis] - 1 - at if last else at), no_gradient

    return run


def one_hot(node: Node, indices: Array, depth: Array, values: Array) -> tuple[Array, Backprop]:
    """Along a new `axis` (-1) of `depth` places, values[1] where the index says and values[0] elsewhere."""
    count = int(np.asarray(depth).reshape(()))
    node.bound(indices.size * count)
    axis = node.attr("axis", -1) % (indices.ndim + 1)
    places = np.arange(count).reshape(-1, *(1,) * (indices.ndim - axis))
    whole = np.expand_dims(np.asarray(indices).astype(np.int64), axis)
    hit = np.where(whole < 0, whole + count, whole) == places

    def backprop(dy: Array) -> Grads:
        on = (dy * hit).sum()
        return (None, None, np.stack([dy.sum() - on, on]))

    return np.where(hit, values[1], values[0]), backprop


def non_zero(node: Node, x: Array) -> tuple[Ints, Backprop]:
    """The places (axis, entry) of what is not 0: no gradient."""
    return np.stack(np.nonzero(x)).astype(np.int64), no_gradient


def compress(node: Node, x: Array, condition: Any) -> tuple[Array, Backprop]:
    """Entries along `axis` (of the flat input) where the condition holds."""
    axis = node.attr("axis", None)
    at = np.flatnonzero(condition)
    flat, along = (x.reshape(-1), 0) if axis is None else (x, axis)

    def backprop(dy: Array) -> Grads:
        dx = np.zeros(flat.shape, dy.dtype)
        np.moveaxis(dx, along, 0)[at] = np.moveaxis(dy, along, 0)
        return (dx.reshape(x.shape), None)

    return flat.take(at, along), backprop
