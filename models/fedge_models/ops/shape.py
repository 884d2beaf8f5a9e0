"""Operators that only move values about, and ReduceMean."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from .operator import Array, Backprop, Node

Ints = NDArray[np.int64]


def identity(node: Node, x: Array) -> tuple[Array, Backprop]:
    """The input itself."""
    return x, lambda dy: (dy,)


def flatten(node: Node, x: Array) -> tuple[Array, Backprop]:
    """Two dimensions: all before `axis` (1), all from it."""
    axis = node.attr("axis", 1) % (x.ndim + 1)
    return x.reshape(int(np.prod(x.shape[:axis])), -1), lambda dy: (dy.reshape(x.shape),)


def reshape(node: Node, x: Array, shape: Ints) -> tuple[Array, Backprop]:
    """The same values in another shape; 0 copies a dimension (unless allowzero), -1 is what remains."""
    wanted = [x.shape[i] if n == 0 and not node.attr("allowzero", 0) else int(n) for i, n in enumerate(shape)]
    return x.reshape(wanted), lambda dy: (dy.reshape(x.shape), None)


def transpose(node: Node, x: Array) -> tuple[Array, Backprop]:
    """Axes in the order `perm` (reversed)."""
    perm = node.attr("perm", list(range(x.ndim))[::-1])
    return x.transpose(perm), lambda dy: (dy.transpose(np.argsort(perm)),)


def _axes(node: Node, given: Ints | None, default: Any) -> Any:
    """Axes from the second input (opset 13 and later) or the attribute (before)."""
    axes = given if given is not None else node.attr("axes", None)
    return tuple(int(a) for a in axes) if axes is not None and len(axes) else default


def squeeze(node: Node, x: Array, axes: Ints | None = None) -> tuple[Array, Backprop]:
    """Without the given axes of length 1."""
    return x.squeeze(_axes(node, axes, None)), lambda dy: (dy.reshape(x.shape), None)


def unsqueeze(node: Node, x: Array, axes: Ints | None = None) -> tuple[Array, Backprop]:
    """With new axes of length 1."""
    return np.expand_dims(x, _axes(node, axes, ())), lambda dy: (dy.reshape(x.shape), None)


def concat(node: Node, *xs: Array) -> tuple[Array, Backprop]:
    """Joined along `axis`."""
    axis = node.attr("axis", 0)
    borders = np.cumsum([x.shape[axis] for x in xs])[:-1]
    return np.concatenate(xs, axis=axis), lambda dy: tuple(np.split(dy, borders, axis=axis))


def reduce_mean(node: Node, x: Array, axes: Ints | None = None) -> tuple[Array, Backprop]:
    """Mean over the axes (all)."""
    over = _axes(node, axes, tuple(range(x.ndim)))
    keep = bool(node.attr("keepdims", 1))
    kept = x.mean(axis=over, keepdims=True)
    share = np.float32(kept.size / x.size)
    y = kept if keep else x.mean(axis=over)
    return y, lambda dy: (np.broadcast_to(dy.reshape(kept.shape) * share, x.shape), None)
