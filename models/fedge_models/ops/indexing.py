# SPDX-License-Identifier: Apache-2.0
"""Gather and scatter by index: entries are taken from, or written to, the places that an integer input names.

All four turn their indices into one NumPy index of the whole tensor. Negative indices count from the end.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .operator import Array, Backprop, Grads, Node
from .shape import Ints

Index = tuple[Any, ...]


def gather_elements(node: Node, x: Array, indices: Ints) -> tuple[Array, Backprop]:
    """For each index, the entry of x at its own place, except along `axis` (0), where the index says the place."""
    index = _along(x, indices, node.attr("axis", 0))
    return x[index], lambda dy: (_added(dy, x.shape, index), None)


def gather_nd(node: Node, x: Array, indices: Ints) -> tuple[Array, Backprop]:
    """Slices of x: the last axis of the indices is a place in x, after `batch_dims` (0) axes that go together."""
    index = _places(x, indices, node.attr("batch_dims", 0))
    return x[index], lambda dy: (_added(dy, x.shape, index), None)


def scatter_elements(node: Node, x: Array, indices: Ints, updates: Array) -> tuple[Array, Backprop]:
    """x, with updates written (or added, multiplied, compared) where GatherElements would take them from."""
    return _scatter(node, x, _along(x, indices, node.attr("axis", 0)), updates)


def scatter_nd(node: Node, x: Array, indices: Ints, updates: Array) -> tuple[Array, Backprop]:
    """x, with slices of updates written (or added, multiplied, compared) where GatherND would take them from."""
    return _scatter(node, x, _places(x, indices, 0), updates)


def _along(x: Array, indices: Ints, axis: int) -> Index:
    index: list[Any] = [*np.ogrid[tuple(slice(n) for n in indices.shape)]]
    index[axis] = indices
    return tuple(index)


def _places(x: Array, indices: Ints, batch: int) -> Index:
    leading = np.ogrid[tuple(slice(n) for n in x.shape[:batch])] if batch else ()
    lead = [grid.reshape(*grid.shape, *(1,) * (indices.ndim - 1 - batch)) for grid in leading]
    return (*lead, *np.moveaxis(indices, -1, 0))


def _added(dy: Array, shape: tuple[int, ...], index: Index) -> Array:
    """The gradient of taking: an entry that was taken twice gets the sum."""
    dx = np.zeros(shape, dy.dtype)
    np.add.at(dx, index, dy)
    return dx


def _scatter(node: Node, x: Array, index: Index, updates: Array) -> tuple[Array, Backprop]:
    how = node.attr("reduction", b"none")
    if how == b"none":
        return _replaced(node, x, index, updates)
    if how == b"add":
        y = x.astype(np.result_type(x, updates))  # a copy; zeros of the graph are float32
        np.add.at(y, index, updates)
        return y, lambda dy: (dy, None, dy[index])
    if how == b"mul":
        return _multiplied(node, x, index, updates)
    if how not in (b"max", b"min"):
        node.refuse(f"reduction {how.decode()!r} is not supported; expected none, add, mul, max or min")
    return _compared(x, index, updates, np.maximum if how == b"max" else np.minimum)


def _replaced(node: Node, x: Array, index: Index, updates: Array) -> tuple[Array, Backprop]:
    """Write updates. Of several for one place the last one stays, and gets the gradient."""
    y = x.astype(np.result_type(x, updates))  # a copy; zeros of the graph are float32
    y[index] = updates

    def backprop(dy: Array) -> Grads:
        dx = dy.copy()
        dx[index] = 0
        if not node.needs(2):
            return (dx, None, None)
        writer = np.zeros(x.shape, np.int64)
        numbers = np.arange(updates.size).reshape(updates.shape)
        writer[index] = numbers
        return (dx, None, dy[index] * (writer[index] == numbers))

    return y, backprop


def _multiplied(node: Node, x: Array, index: Index, updates: Array) -> tuple[Array, Backprop]:
    """Multiply by updates; the gradient by a factor is the product of all others, so none may be 0."""
    y = x.astype(np.result_type(x, updates))  # a copy; zeros of the graph are float32
    np.multiply.at(y, index, updates)

    def backprop(dy: Array) -> Grads:
        if not (x.all() and updates.all()):
            node.refuse("reduction mul has no gradient here where a factor is 0")
        return (dy * y / x, None, (dy * y)[index] / updates)

    return y, backprop


def _compared(x: Array, index: Index, updates: Array, of: np.ufunc) -> tuple[Array, Backprop]:
    """The largest or smallest of x and its updates; equal ones share the gradient."""
    y = x.astype(np.result_type(x, updates))  # a copy; zeros of the graph are float32
    of.at(y, index, updates)

    def backprop(dy: Array) -> Grads:
        stays, written = (x == y).astype(dy.dtype), (updates == y[index]).astype(dy.dtype)
        share = stays.copy()
        np.add.at(share, index, written)
        each = dy / share
        return (each * stays, None, each[index] * written)

    return y, backprop
