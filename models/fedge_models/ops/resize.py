# SPDX-License-Identifier: Apache-2.0
"""Resize by nearest neighbour or linearly: one small matrix per changed axis, and its transpose for the gradient."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .operator import Array, Backprop, Grads, Node

Floats = NDArray[np.floating[Any]]
ROUND: dict[bytes, Callable[[Floats], Floats]] = {
    b"round_prefer_floor": lambda at: np.ceil(at - 0.5),
    b"round_prefer_ceil": lambda at: np.floor(at + 0.5),
    b"floor": np.floor,
    b"ceil": np.ceil,
}


def resize(
    node: Node, x: Array, roi: Array | None = None, scales: Array | None = None, sizes: Array | None = None
) -> tuple[Array, Backprop]:
    """ONNX Resize of x by scales or to sizes, of all axes or of `axes`; modes nearest and linear."""
    matrices = []
    for axis, size, scale in _wanted(node, x, scales, sizes):
        key = (axis, x.shape[axis], size, scale)
        if key not in node.cached:
            node.bound(size * x.shape[axis])
            node.cached[key] = _matrix(node, x.shape[axis], size, scale).astype(x.dtype)
        matrices.append((axis, node.cached[key]))
    y = x
    for axis, matrix in matrices:
        node.bound(y.size // max(1, y.shape[axis]) * len(matrix))
        y = _along(y, axis, matrix)

    def backprop(dy: Array) -> Grads:
        for axis, matrix in reversed(matrices):
            dy = _along(dy, axis, matrix.T)
        return (dy, None, None, None)

    return y, backprop


def _wanted(node: Node, x: Array, scales: Array | None, sizes: Array | None) -> list[tuple[int, int, float]]:
    """Return (axis, new size, scale) of each axis that changes."""
    if node.attr("antialias", 0) or node.attr("keep_aspect_ratio_policy", b"stretch") != b"stretch":
        node.refuse("antialias and keep_aspect_ratio_policy are not supported; export without")
    over = [a % x.ndim for a in node.attr("axes", range(x.ndim))]
    if scales is not None and scales.size:
        found = [(a, int(np.floor(x.shape[a] * float(s))), float(s)) for a, s in zip(over, scales, strict=True)]
    elif sizes is not None:
        found = [(a, int(n), int(n) / x.shape[a]) for a, n in zip(over, sizes, strict=True)]
    else:
        node.refuse("has neither scales nor sizes")
    return [(a, n, s) for a, n, s in found if n != x.shape[a] or s != 1]


def _matrix(node: Node, old: int, new: int, scale: float) -> Floats:
    """Return the weights (new, old) of the old values in each new one."""
    at, rows = _positions(node, old, new, scale), np.arange(new)
    matrix = np.zeros((new, old))
    mode = node.attr("mode", b"nearest")
    if mode == b"nearest":
        nearest = ROUND[node.attr("nearest_mode", b"round_prefer_floor")](at)
        matrix[rows, np.clip(nearest, 0, old - 1).astype(np.int64)] = 1
    elif mode == b"linear":
        at = np.clip(at, 0, old - 1)
        left = np.minimum(np.floor(at), old - 1).astype(np.int64)
        np.add.at(matrix, (rows, left), 1 - (at - left))
        np.add.at(matrix, (rows, np.minimum(left + 1, old - 1)), at - left)
    else:
        node.refuse(f"mode {mode.decode()!r} is not supported; expected nearest or linear")
    return matrix


def _positions(node: Node, old: int, new: int, scale: float) -> Floats:
    """Return the position of each new value among the old ones, in float32: ties must fall as in ONNX Runtime."""
    rows, by = np.arange(new, dtype=np.float32), np.float32(scale)
    way = node.attr("coordinate_transformation_mode", b"half_pixel")
    if way == b"align_corners":
        return rows * (old - 1) / max(1, new - 1)
    if way == b"asymmetric":
        return rows / by
    if way == b"pytorch_half_pixel" and new == 1:
        return np.zeros(1, np.float32)
    if way == b"half_pixel_symmetric":
        return np.float32(old / 2) * (1 - new / (by * old)) + (rows + np.float32(0.5)) / by - np.float32(0.5)
    if way not in (b"half_pixel", b"pytorch_half_pixel"):
        node.refuse(f"coordinate_transformation_mode {way.decode()!r} is not supported")
    return (rows + np.float32(0.5)) / by - np.float32(0.5)


def _along(x: Any, axis: int, matrix: Any) -> Any:
    """Apply matrix (new, old) to one axis."""
    return np.moveaxis(np.moveaxis(x, axis, -1) @ matrix.T, -1, axis)
