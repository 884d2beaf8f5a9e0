# SPDX-License-Identifier: Apache-2.0
"""Pooling over one or more axes."""

from __future__ import annotations

from typing import Any

import numpy as np

from .geometry import Geometry, geometry
from .layout import channels_first, channels_last
from .operator import Array, Backprop, Grads, Node
from .pool_tiles import Tiles, are_tiles


def max_pool(node: Node, x: Array) -> tuple[Any, Backprop]:
    """Largest value of each window, and its position in x where that is read; of equal ones, one gets the gradient."""
    if are_tiles(node):
        return _tiles(node, x)
    places = geometry(node, x.shape[2:], tuple(node.attr("kernel_shape", None)))
    padded = places.pad(x, -np.inf)
    view = places.windows(padded)
    flat = view.reshape(*view.shape[: x.ndim], -1)
    chosen = flat.argmax(axis=-1)[..., None]
    y = np.take_along_axis(flat, chosen, axis=-1)[..., 0]

    def backprop(dy: Array) -> Grads:
        parts = np.zeros(flat.shape, x.dtype)
        np.put_along_axis(parts, chosen, dy[..., None], axis=-1)
        return (scatter(parts.reshape(view.shape), places, padded.shape, x.shape),)

    if len(node.outputs) == 1:
        return y, backprop
    at = _positions(node, places, x, chosen)
    return (y, at), lambda dys: backprop(dys[0]) if dys[0] is not None else (None,)


def _positions(node: Node, places: Geometry, x: Array, chosen: Any) -> Any:
    """Return the position of each chosen value in the flat x; storage_order 1 counts the last two axes by columns."""
    spatial = x.shape[2:]
    order = (0, 1, *range(2, x.ndim)) if not node.attr("storage_order", 0) else (0, 1, *range(x.ndim - 1, 1, -1))
    numbers = np.arange(x.size).reshape([x.shape[a] for a in order]).transpose(np.argsort(order))
    sizes = [n + b + a for n, b, a in zip(spatial, places.before, places.after, strict=True)]
    whole = np.zeros((*x.shape[:2], *sizes), np.int64)
    whole[places.inside(spatial)] = numbers
    view = places.windows(whole)
    return np.take_along_axis(view.reshape(*view.shape[: x.ndim], -1), chosen, axis=-1)[..., 0]


def _tiles(node: Node, x: Array) -> tuple[Array, Backprop]:
    """MaxPool over windows that neither overlap nor leave gaps."""
    values = channels_last(x)
    plan = node.plan(x.shape) or node.store_plan(
        x.shape, (Tiles(values, node.attr("kernel_shape", None)), np.zeros_like(values))
    )
    tiles, dx = plan

    def backprop(dy: Array) -> Grads:
        tiles.backprop(channels_last(dy), dx)
        return (channels_first(dx),)

    return channels_first(tiles.forward(values)), backprop


def average_pool(node: Node, x: Array) -> tuple[Array, Backprop]:
    """Mean of each window; padding counts only with count_include_pad."""
    places = geometry(node, x.shape[2:], tuple(node.attr("kernel_shape", None)))
    padded = places.pad(x, 0)
    over = tuple(range(-len(places.kernel), 0))
    view, share = places.windows(padded), _share(node, places, x, over)

    def backprop(dy: Array) -> Grads:
        parts = np.broadcast_to((dy * share).reshape(*dy.shape, *(1,) * len(over)), view.shape)
        return (scatter(parts, places, padded.shape, x.shape),)

    return view.sum(axis=over) * share, backprop


def global_average_pool(node: Node, x: Array) -> tuple[Array, Backprop]:
    """Mean over everything after the channel axis, as products with a vector: a tenth of a reduction's time."""
    shape, share = (*x.shape[:2], *(1,) * (x.ndim - 2)), x.dtype.type(x.shape[1] * len(x) / x.size)
    y = _sums(node, x)
    np.multiply(y, share, out=y)

    def backprop(dy: Array) -> Grads:
        each = np.multiply(dy.reshape(shape), share, out=node.buffer("each", shape))
        return (np.broadcast_to(each, x.shape),)

    return y.reshape(shape), backprop


def _sums(node: Node, x: Array) -> Array:
    """Sum x (batch, channels, *spatial) to (batch, channels), axis by axis, in the order of its memory."""
    last = x.strides[1] <= min(x.strides[2:])  # the channels, in memory
    lines = channels_last(x) if last else x
    while lines.ndim > 2:
        axis = -2 if last else -1
        shape = (*lines.shape[:axis], *lines.shape[axis:][1:])
        ones, out = np.ones(lines.shape[axis], x.dtype), node.buffer(f"sums{lines.ndim}", shape)
        lines = np.matmul(ones, lines, out=out) if last else np.matmul(lines, ones, out=out)
    return lines


def global_max_pool(node: Node, x: Array) -> tuple[Array, Backprop]:
    """Largest value after the channel axis; equal ones share the gradient."""
    over = tuple(range(2, x.ndim))
    y = x.max(axis=over, keepdims=True)

    def backprop(dy: Array) -> Grads:
        largest = x == y
        return (largest * (dy / largest.sum(axis=over, keepdims=True, dtype=x.dtype)),)

    return y, backprop


def _share(node: Node, places: Geometry, x: Array, over: tuple[int, ...]) -> Array:
    """1 / count of values in each window (1, 1, *out), computed once for each input size."""
    found = node.cached.get(("share", x.shape[2:]))
    if found is None:
        counted = np.ones((1, 1, *x.shape[2:]), x.dtype)
        if node.attr("count_include_pad", 0):  # but not what ceil_mode adds to the padding that is declared
            around = zip(places.before, places.declared, strict=True)
            padded = np.pad(counted, [(0, 0), (0, 0), *around], constant_values=1)
            beyond = [(0, a - d) for a, d in zip(places.after, places.declared, strict=True)]
            counted = np.pad(padded, [(0, 0), (0, 0), *beyond])
        else:
            counted = places.pad(counted, 0)
        found = node.cached["share", x.shape[2:]] = 1 / places.windows(counted).sum(axis=over)
    return found


def scatter(parts: Array, places: Geometry, padded: tuple[int, ...], shape: tuple[int, ...]) -> Array:
    """Add gradients of windows (batch, channels, *out, *kernel) to the values they were taken from."""
    dx = np.zeros(padded, parts.dtype)
    for index, meets in places.taps():
        dx[meets] += parts[index]
    return dx[places.inside(shape[2:])]
