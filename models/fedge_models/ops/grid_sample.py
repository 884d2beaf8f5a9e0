# SPDX-License-Identifier: Apache-2.0
"""Sample pictures at any places, and the places of an affine map (spatial transformers, Jaderberg et al. 2015).

For each axis a place has a few taps: where they are, their weights, and the slopes of these by the place. A value is
the sum over all combinations of taps; so are its gradients, with one weight replaced by its slope.
"""

from __future__ import annotations

from itertools import product
from math import prod
from typing import Any, NamedTuple

import numpy as np

from .operator import Array, Backprop, Grads, Node
from .resize_weights import cubic_kernel
from .shape import Ints

MODES = {b"linear": 2, b"bilinear": 2, b"nearest": 1, b"cubic": 4, b"bicubic": 4}  # taps of each axis


class _Taps(NamedTuple):
    """Taps along one axis (..., taps): places in the input, weights, and slopes by the grid's value."""

    at: Any
    weights: Array
    slopes: Array


def grid_sample(node: Node, x: Array, grid: Array) -> tuple[Array, Backprop]:
    """x (batch, channels, *in) at the places of a grid (batch, *out, axes), where -1 and 1 are the ends of an axis."""
    axes = x.ndim - 2
    if node.attr("mode", b"linear") not in MODES:
        node.refuse(f"mode {node.attr('mode', b'').decode()!r} is not supported; expected linear, nearest or cubic")
    node.bound(x.shape[1] * grid.size // max(1, axes))
    taps = [_taps(node, grid[..., axes - 1 - i], x.shape[2 + i]) for i in range(axes)]  # the last axis is first there
    batch = np.arange(len(x)).reshape(-1, *(1,) * axes)
    combined = [*product(*(range(t.at.shape[-1]) for t in taps))]
    places = [(batch, slice(None), *(t.at[..., k] for t, k in zip(taps, which, strict=True))) for which in combined]
    weights = [prod(t.weights[..., k] for t, k in zip(taps, which, strict=True)) for which in combined]
    y = np.zeros((*grid.shape[:-1], x.shape[1]), x.dtype)
    for place, weight in zip(places, weights, strict=True):
        y += x[place] * np.asarray(weight)[..., None]

    def backprop(dy: Array) -> Grads:
        last = np.moveaxis(dy, 1, -1)
        dx = np.zeros(x.shape, dy.dtype) if node.needs(0) else None
        dgrid = np.zeros(grid.shape, dy.dtype) if node.needs(1) else None
        for which, place, weight in zip(combined, places, weights, strict=True):
            if dx is not None:
                np.add.at(dx, place, last * np.asarray(weight)[..., None])
            if dgrid is not None:
                along = (last * x[place]).sum(axis=-1)
                for i in range(axes):
                    parts = [t.slopes if i == j else t.weights for j, t in enumerate(taps)]
                    dgrid[..., axes - 1 - i] += along * prod(p[..., k] for p, k in zip(parts, which, strict=True))
        return (dx, dgrid)

    return np.moveaxis(y, -1, 1), backprop


def _taps(node: Node, places: Array, size: int) -> _Taps:
    """Return the taps of one axis of `size` values for places between -1 and 1."""
    corners, mode = bool(node.attr("align_corners", 0)), node.attr("mode", b"linear")
    slope: Any = (size - 1) / 2 if corners else size / 2
    at: Any = (places + 1) * slope - (0 if corners else 0.5)
    count = MODES[mode]
    if count < 4:  # a cubic filter reaches beyond the border from inside too, so there only taps are moved
        at, turned = _inside(node, at, size)
        slope = slope * turned
    first = np.rint(at) if count == 1 else np.floor(at) - (count // 2 - 1)
    offsets = np.arange(count)
    apart = at[..., None] - (first[..., None] + offsets)
    taps, _ = _inside(node, first[..., None] + offsets, size)
    there = (taps >= 0) & (taps < size)
    weights, slopes = _weights(count, apart)
    each = np.broadcast_to(np.asarray(slope)[..., None], slopes.shape)
    columns = np.clip(taps, 0, size - 1).astype(np.int64)
    return _Taps(columns, (weights * there).astype(places.dtype), (slopes * there * each).astype(places.dtype))


def _weights(count: int, apart: Any) -> tuple[Any, Any]:
    """Return the weights of taps by their distances, and the slopes by these."""
    if count == 1:
        return np.ones_like(apart), np.zeros_like(apart)
    if count == 2:
        return 1 - np.abs(apart), -np.where(np.arange(2) == 0, 1.0, -1.0) + 0 * apart
    a, d = -0.75, np.abs(apart)
    inner, outer = (3 * (a + 2) * d - 2 * (a + 3)) * d, ((3 * d - 10) * d + 8) * a
    return cubic_kernel(apart, a), np.sign(apart) * np.where(d <= 1, inner, np.where(d < 2, outer, 0))


def _inside(node: Node, at: Any, size: int) -> tuple[Any, Any]:
    """Move places beyond the border as `padding_mode` says; return them, and the slope of this by them."""
    padding = node.attr("padding_mode", b"zeros")
    if padding == b"border":
        return np.clip(at, 0, size - 1), ((at >= 0) & (at <= size - 1)).astype(at.dtype)
    if padding != b"reflection":
        return at, 1.0
    low, high = (0, size - 1) if node.attr("align_corners", 0) else (-0.5, size - 0.5)
    if high == low:
        return np.zeros_like(at), 0.0
    span = high - low
    turns = np.floor((at - low) / span)
    rest = at - low - turns * span
    back = np.mod(turns, 2) == 1
    return low + np.where(back, span - rest, rest), np.where(back, -1.0, 1.0)


def affine_grid(node: Node, theta: Array, size: Ints) -> tuple[Array, Backprop]:
    """The places (batch, *out, axes) of a grid under affine maps theta (batch, axes, axes + 1), as torch has them."""
    out = [int(n) for n in size[2:]]
    node.bound(len(theta) * prod(out) * len(out))
    corners = bool(node.attr("align_corners", 0))
    lines = [np.linspace(-1, 1, n) if corners and n > 1 else (2 * np.arange(n) + 1) / n - 1 for n in out]
    grids = np.meshgrid(*lines, indexing="ij")[::-1]  # the last axis first
    base = np.stack([*grids, np.ones(out)], axis=-1).reshape(-1, len(out) + 1).astype(theta.dtype)
    y = (base @ theta.transpose(0, 2, 1)).reshape(len(theta), *out, len(out))

    def backprop(dy: Array) -> Grads:
        return (dy.reshape(len(theta), -1, len(out)).transpose(0, 2, 1) @ base, None)

    return y, backprop
