# SPDX-License-Identifier: Apache-2.0
"""Pooling by a norm: the p-th root of the sum of p-th powers of each window (Sermanet et al. 2012)."""

from __future__ import annotations

from typing import Any

import numpy as np

from .geometry import geometry
from .operator import Array, Backprop, Node
from .pool import scatter


def lp_pool(node: Node, x: Array) -> tuple[Array, Backprop]:
    """ONNX LpPool with p (2); padding adds nothing."""
    p = node.attr("p", 2)
    places = geometry(node, x.shape[2:], tuple(node.attr("kernel_shape", None)))
    padded = places.pad(x, 0)
    view, over = places.windows(padded), tuple(range(-len(places.kernel), 0))
    y, slope = _norm(view, over, p)

    def backprop(dy: Array) -> tuple[Array]:
        parts = np.expand_dims(dy, tuple(range(dy.ndim, dy.ndim + len(over)))) * slope()
        return (scatter(parts, places, padded.shape, x.shape),)

    return y.squeeze(over), backprop


def global_lp_pool(node: Node, x: Array) -> tuple[Array, Backprop]:
    """ONNX GlobalLpPool: the norm of everything after the channel axis."""
    y, slope = _norm(x, tuple(range(2, x.ndim)), node.attr("p", 2))
    return y, lambda dy: (dy * slope(),)


def _norm(x: Array, over: tuple[int, ...], p: int) -> tuple[Array, Any]:
    """Return the norm over some axes (of length 1 then) and a function for its slope by x: 0 at 0."""
    y = (np.abs(x) ** p).sum(axis=over, keepdims=True) ** x.dtype.type(1 / p)

    def slope() -> Array:
        ratio = np.divide(np.abs(x), y, out=np.zeros(x.shape, x.dtype), where=y > 0)
        found: Array = np.sign(x) * ratio ** (p - 1)
        return found

    return y, slope
