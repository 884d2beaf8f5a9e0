# SPDX-License-Identifier: Apache-2.0
"""Running sums along an axis."""

from __future__ import annotations

import numpy as np

from .operator import Array, Backprop, Node
from .shape import Ints


def cum_sum(node: Node, x: Array, axis: Ints) -> tuple[Array, Backprop]:
    """Sum of all values up to each one along the axis; `exclusive` without itself, `reverse` from the end."""
    along = int(np.asarray(axis).reshape(()))
    exclusive, backwards = bool(node.attr("exclusive", 0)), bool(node.attr("reverse", 0))
    y = _running(x, along, exclusive, backwards)
    return y, lambda dy: (_running(dy, along, exclusive, not backwards), None)


def _running(x: Array, axis: int, exclusive: bool, backwards: bool) -> Array:
    lines = np.flip(x, axis) if backwards else x
    sums: Array = np.cumsum(lines, axis=axis, dtype=x.dtype)
    if exclusive:
        sums = np.roll(sums, 1, axis)
        first = [slice(None)] * x.ndim
        first[axis] = slice(0, 1)
        sums[tuple(first)] = 0
    return np.flip(sums, axis) if backwards else sums
