# SPDX-License-Identifier: Apache-2.0
"""Reductions over axes."""

from __future__ import annotations

from typing import Any

import numpy as np

from .operator import Array, Backprop, Node
from .shape import Ints, axes_of


def _over(node: Node, x: Array, given: Ints | None) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return the reduced axes, and the shape with 1 in their place."""
    nothing: Any = () if node.attr("noop_with_empty_axes", 0) else tuple(range(x.ndim))
    over = tuple(a % x.ndim for a in axes_of(node, given, nothing))
    return over, tuple(1 if i in over else n for i, n in enumerate(x.shape))


def _result(node: Node, reduced: Array, over: tuple[int, ...]) -> Array:
    return reduced if node.attr("keepdims", 1) else reduced.squeeze(over)


def reduce_sum(node: Node, x: Array, axes: Ints | None = None) -> tuple[Array, Backprop]:
    """Sum over the axes (all)."""
    over, shape = _over(node, x, axes)
    y = _result(node, x.sum(axis=over, keepdims=True), over)
    return y, lambda dy: (np.broadcast_to(dy.reshape(shape), x.shape), None)


def reduce_mean(node: Node, x: Array, axes: Ints | None = None) -> tuple[Array, Backprop]:
    """Mean over the axes (all)."""
    over, shape = _over(node, x, axes)
    reduced = x.mean(axis=over, keepdims=True)
    share = x.dtype.type(reduced.size / x.size)
    return _result(node, reduced, over), lambda dy: (np.broadcast_to(dy.reshape(shape) * share, x.shape), None)


def reduce_max(node: Node, x: Array, axes: Ints | None = None) -> tuple[Array, Backprop]:
    """Largest over the axes (all); equal ones share the gradient, as in PyTorch's amax."""
    return _extreme(node, np.maximum, x, axes)


def reduce_min(node: Node, x: Array, axes: Ints | None = None) -> tuple[Array, Backprop]:
    """Smallest over the axes (all); equal ones share the gradient."""
    return _extreme(node, np.minimum, x, axes)


def reduce_l2(node: Node, x: Array, axes: Ints | None = None) -> tuple[Array, Backprop]:
    """Root of the sum of squares over the axes (all); the gradient at 0 is 0."""
    over, shape = _over(node, x, axes)
    reduced = np.sqrt((x * x).sum(axis=over, keepdims=True))

    def backprop(dy: Array) -> tuple[Array, None]:
        return (np.divide(x, reduced, out=np.zeros_like(x), where=reduced > 0) * dy.reshape(shape), None)

    return _result(node, reduced, over), backprop


def reduce_l1(node: Node, x: Array, axes: Ints | None = None) -> tuple[Array, Backprop]:
    """Sum of absolute values over the axes (all)."""
    over, shape = _over(node, x, axes)
    y = _result(node, np.abs(x).sum(axis=over, keepdims=True), over)
    return y, lambda dy: (np.sign(x) * dy.reshape(shape), None)


def reduce_log_sum(node: Node, x: Array, axes: Ints | None = None) -> tuple[Array, Backprop]:
    """Logarithm of the sum over the axes (all)."""
    over, shape = _over(node, x, axes)
    sums = x.sum(axis=over, keepdims=True)
    return _result(node, np.log(sums), over), lambda dy: (np.broadcast_to(dy.reshape(shape) / sums, x.shape), None)


def reduce_log_sum_exp(node: Node, x: Array, axes: Ints | None = None) -> tuple[Array, Backprop]:
    """Logarithm of the sum of exponentials over the axes (all), without overflow; minus infinity over nothing."""
    over, shape = _over(node, x, axes)
    if x.size == 0:
        return _result(node, np.full(shape, -np.inf, x.dtype), over), lambda dy: (np.zeros_like(x), None)
    largest = x.max(axis=over, keepdims=True)
    reduced = largest + np.log(np.exp(x - largest).sum(axis=over, keepdims=True))
    return _result(node, reduced, over), lambda dy: (np.exp(x - reduced) * dy.reshape(shape), None)


def reduce_sum_square(node: Node, x: Array, axes: Ints | None = None) -> tuple[Array, Backprop]:
    """Sum of squares over the axes (all)."""
    over, shape = _over(node, x, axes)
    y = _result(node, (x * x).sum(axis=over, keepdims=True), over)
    return y, lambda dy: (2 * x * dy.reshape(shape), None)


def reduce_prod(node: Node, x: Array, axes: Ints | None = None) -> tuple[Array, Backprop]:
    """Product over the axes (all); exporters compute sizes with it."""
    over, shape = _over(node, x, axes)

    def backprop(dy: Array) -> tuple[Array, None]:
        zero = x == 0
        filled = np.where(zero, x.dtype.type(1), x)
        others = filled.prod(axis=over, keepdims=True) / filled
        others_zero = zero.sum(axis=over, keepdims=True) > zero  # another factor is 0
        return (np.where(others_zero, 0, others) * dy.reshape(shape), None)

    return _result(node, x.prod(axis=over, keepdims=True), over), backprop


def _extreme(node: Node, of: np.ufunc, x: Array, axes: Ints | None) -> tuple[Array, Backprop]:
    """Reduce by maximum or minimum; over nothing, to what every value replaces."""
    over, shape = _over(node, x, axes)
    reduced = of.reduce(x, axis=over, keepdims=True, initial=_least(of, x) if x.size == 0 else None)

    def backprop(dy: Array) -> tuple[Array, None]:
        hits = x == reduced
        return (hits * (dy.reshape(shape) / hits.sum(axis=over, keepdims=True, dtype=x.dtype)), None)

    return _result(node, reduced, over), backprop


def _least(of: np.ufunc, x: Any) -> Any:
    if x.dtype.kind == "b":
        return of is np.minimum
    ends = (-np.inf, np.inf) if x.dtype.kind == "f" else (np.iinfo(x.dtype).min, np.iinfo(x.dtype).max)
    return ends[of is np.minimum]
