"""Reductions over axes."""

from __future__ import annotations

from typing import Any

import numpy as np

from .operator import Array, Backprop, Node
from .shape import Ints, axes_of


def _over(node: Node, x: Array, given: Ints | None) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The axes that go, and the shape with 1 in their place."""
    nothing: Any = () if node.attr("noop_with_empty_axes", 0) else tuple(range(x.ndim))
    over = tuple(a % x.ndim for a in axes_of(node, given, nothing))
    return over, tuple(1 if i in over else n for i, n in enumerate(x.shape))


def _result(node: Node, kept: Array, over: tuple[int, ...]) -> Array:
    return kept if node.attr("keepdims", 1) else kept.squeeze(over)


def reduce_sum(node: Node, x: Array, axes: Ints | None = None) -> tuple[Array, Backprop]:
    """Sum over the axes (all)."""
    over, shape = _over(node, x, axes)
    y = _result(node, x.sum(axis=over, keepdims=True), over)
    return y, lambda dy: (np.broadcast_to(dy.reshape(shape), x.shape), None)


def reduce_mean(node: Node, x: Array, axes: Ints | None = None) -> tuple[Array, Backprop]:
    """Mean over the axes (all)."""
    over, shape = _over(node, x, axes)
    kept = x.mean(axis=over, keepdims=True)
    share = x.dtype.type(kept.size / x.size)
    return _result(node, kept, over), lambda dy: (np.broadcast_to(dy.reshape(shape) * share, x.shape), None)


def reduce_max(node: Node, x: Array, axes: Ints | None = None) -> tuple[Array, Backprop]:
    """Largest over the axes (all); equals share the gradient, as in PyTorch's amax."""
    over, shape = _over(node, x, axes)
    kept = x.max(axis=over, keepdims=True)

    def backprop(dy: Array) -> tuple[Array, None]:
        largest = x == kept
        return (largest * (dy.reshape(shape) / largest.sum(axis=over, keepdims=True, dtype=x.dtype)), None)

    return _result(node, kept, over), backprop
