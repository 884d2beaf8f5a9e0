# SPDX-License-Identifier: Apache-2.0
"""The weights with which old values along an axis make up each new one: nearest, linear or cubic (Keys 1981).

With `antialias` a filter is as much wider as values become fewer, so that none is left out.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .operator import Node

Floats = NDArray[np.floating[Any]]
ROUND: dict[bytes, Callable[[Floats], Floats]] = {
    b"round_prefer_floor": lambda at: np.ceil(at - 0.5),
    b"round_prefer_ceil": lambda at: np.floor(at + 0.5),
    b"floor": np.floor,
    b"ceil": np.ceil,
}


class Part(NamedTuple):
    """What becomes of an axis; `roi`: the first and last place that are left, as shares of the old ones."""

    old: int
    new: int
    scale: float
    roi: tuple[float, float]


def matrix_of(node: Node, part: Part) -> tuple[Floats, Any]:
    """Return the weights (new, old), and which rows lie beyond the old values when cropped (None: none can)."""
    at = _positions(node, part)
    mode = node.attr("mode", b"nearest")
    if mode == b"nearest":
        taps = ROUND[node.attr("nearest_mode", b"round_prefer_floor")](at)[:, None]
        weights = np.ones_like(taps)
    elif mode in (b"linear", b"cubic"):
        taps, weights = _filtered(node, part, at, mode == b"cubic")
    else:
        node.refuse(f"mode {mode.decode()!r} is not supported; expected nearest, linear or cubic")
    if node.attr("exclude_outside", 0):
        weights = weights * ((taps >= 0) & (taps < part.old))
        weights = weights / weights.sum(axis=1, keepdims=True)
    matrix = np.zeros((part.new, part.old))
    columns = np.clip(taps, 0, part.old - 1).astype(np.int64)
    np.add.at(matrix, (np.arange(part.new)[:, None], columns), weights)
    if node.attr("coordinate_transformation_mode", b"half_pixel") != b"tf_crop_and_resize":
        return matrix, None
    beyond = (at < 0) | (at > part.old - 1)
    matrix[beyond] = 0
    return matrix, beyond if beyond.any() else None


def _filtered(node: Node, part: Part, at: Floats, cubic: bool) -> tuple[Floats, Floats]:
    """Return the places (new, taps) of the old values around each position, and their weights."""
    kernel = cubic_kernel if cubic else linear_kernel
    scale = min(part.scale, 1.0) if node.attr("antialias", 0) else 1.0
    before = np.ceil(at) - 1  # the neighbour on the left, also of a position that is one itself
    first = int(np.floor(-(2 if cubic else 1) / scale)) + 1
    offsets = np.arange(first, 2 - first)
    weights = kernel(scale * (offsets - (at - before)[:, None]), node.attr("cubic_coeff_a", -0.75))
    return before[:, None] + offsets, weights / weights.sum(axis=1, keepdims=True)


def linear_kernel(distance: Floats, a: float = 0.0) -> Floats:
    """The weight of a value at some distance: a triangle."""
    return np.clip(1 - np.abs(distance), 0, 1)


def cubic_kernel(distance: Floats, a: float) -> Floats:
    """The weight of a value at some distance: two cubic pieces, the outer one of slope `a` at 1."""
    d = np.abs(distance)
    inner = ((a + 2) * d - (a + 3)) * d * d + 1
    outer = ((d - 5) * d + 8) * d * a - 4 * a
    return np.where(d <= 1, inner, np.where(d < 2, outer, 0))


def _positions(node: Node, part: Part) -> Floats:
    """Return the position of each new value among the old ones, in float32: ties must fall as in ONNX Runtime."""
    old, new, scale, (start, end) = part
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
    if way == b"tf_crop_and_resize":
        span = np.float32((end - start) * (old - 1))
        return np.float32(start * (old - 1)) + (rows * span / (new - 1) if new > 1 else span / 2 + 0 * rows)
    if way not in (b"half_pixel", b"pytorch_half_pixel"):
        node.refuse(f"coordinate_transformation_mode {way.decode()!r} is not supported")
    return (rows + np.float32(0.5)) / by - np.float32(0.5)
