# SPDX-License-Identifier: Apache-2.0
"""Pooling over one or more axes."""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np

from .geometry import Geometry, geometry
from .layout import batch_first, batch_last, in_batch_last, items
from .operator import Array, Backprop, Grads, Node
from .pool_tiles import are_tiles, maxima
from .taps import taps

MARKS = 256  # taps that a byte can number


def max_pool(node: Node, x: Array) -> tuple[Any, Backprop]:
    """Largest value of each window, and its position in x where that is read; of equal ones, one gets the gradient."""
    if are_tiles(node):
        return _tiles(node, x)
    places = geometry(node, x.shape[2:], tuple(node.attr("kernel_shape", None)))
    if len(node.outputs) == 1 and prod(places.kernel) <= MARKS:
        return _largest(node, x, places)
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


def _largest(node: Node, x: Array, places: Geometry) -> tuple[Array, Backprop]:
    """MaxPool over any windows, as running maxima of slices; the number of the tap that won is stored in a byte."""
    memory, values, reached = node.workspace, in_batch_last(node, x), taps(places, x.shape[2:])
    y, shape, dtype = memory.array((x.shape[1], *places.out, len(x)), x.dtype), values.shape, x.dtype
    won, larger = memory.array(y.shape, np.uint8), memory.array(y.shape, np.bool_)
    y.fill(-np.inf if x.dtype.kind == "f" else np.iinfo(x.dtype.name).min)
    won.fill(0)
    apart = memory.array(y.shape, x.dtype)
    for tap in reached:
        onto, part = tap.onto, apart[tap.onto]
        np.copyto(items(part), items(values[tap.source]))
        np.greater(part, y[onto], out=larger[onto])
        np.maximum(part, y[onto], out=y[onto])
        number = np.multiply(larger[onto].view(np.uint8), np.uint8(tap.number), out=larger[onto].view(np.uint8))
        np.maximum(won[onto], number, out=won[onto])  # numbers rise

    def backprop(dy: Array) -> Grads:
        slopes, dx = in_batch_last(node, dy), memory.array(shape, dtype)
        mine, part = memory.array(won.shape, np.bool_), memory.array(won.shape, dtype)
        dx.fill(0)
        for tap in reached:
            onto, target = tap.onto, dx[tap.source]
            np.equal(won[onto], tap.number, out=mine[onto])
            np.add(target, np.multiply(slopes[onto], mine[onto], out=part[onto]), out=target)
        return (batch_first(dx),)

    return batch_first(y), backprop


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
    values = in_batch_last(node, x)
    y, back = maxima(values, node.attr("kernel_shape", None), node.workspace)
    shape, dtype = values.shape, x.dtype

    def backprop(dy: Array) -> Grads:
        dx = node.workspace.array(shape, dtype)
        dx.fill(0)  # where no window reaches
        back(in_batch_last(node, dy), dx)
        return (batch_first(dx),)

    return batch_first(y), backprop


def average_pool(node: Node, x: Array) -> tuple[Array, Backprop]:
    """Mean of each window; padding counts only with count_include_pad."""
    memory, values = node.workspace, in_batch_last(node, x)
    places = geometry(node, x.shape[2:], tuple(node.attr("kernel_shape", None)))
    reached, share = taps(places, x.shape[2:]), batch_last(_share(node, places, x))
    y = memory.array((x.shape[1], *places.out, len(x)), x.dtype)
    y.fill(0)
    for tap in reached:
        onto, source = y[tap.onto], values[tap.source]
        np.add(onto, source, out=onto)
    np.multiply(y, share, out=y)
    shapes, dtype = (values.shape, y.shape), x.dtype

    def backprop(dy: Array) -> Grads:
        slopes = np.multiply(batch_last(dy), share, out=memory.array(shapes[1], dtype))
        dx = memory.array(shapes[0], dtype)
        dx.fill(0)
        for tap in reached:
            target = dx[tap.source]
            np.add(target, slopes[tap.onto], out=target)
        return (batch_first(dx),)

    return batch_first(y), backprop


def global_average_pool(node: Node, x: Array) -> tuple[Array, Backprop]:
    """Mean over everything after the channel axis, as products with a vector: a tenth of a reduction's time."""
    share = x.dtype.type(x.shape[1] * len(x) / x.size)
    values = in_batch_last(node, x)
    lines = values.reshape(len(values), -1, len(x))
    y = np.matmul(np.full(lines.shape[1], share, x.dtype), lines)
    shape, whole, dtype = (len(y), *(1,) * (x.ndim - 2), len(x)), values.shape, x.dtype

    def backprop(dy: Array) -> Grads:
        each = np.multiply(batch_last(dy), share, out=np.empty(shape, dtype))
        return (batch_first(np.broadcast_to(each, whole)),)

    return batch_first(y.reshape(shape)), backprop


def global_max_pool(node: Node, x: Array) -> tuple[Array, Backprop]:
    """Largest value after the channel axis; equal ones share the gradient."""
    over = tuple(range(2, x.ndim))
    y = x.max(axis=over, keepdims=True)

    def backprop(dy: Array) -> Grads:
        largest = x == y
        return (largest * (dy / largest.sum(axis=over, keepdims=True, dtype=x.dtype)),)

    return y, backprop


def _share(node: Node, places: Geometry, x: Array) -> Array:
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
        over = tuple(range(-len(places.kernel), 0))
        found = node.cached["share", x.shape[2:]] = 1 / places.windows(counted).sum(axis=over)
    return found


def scatter(parts: Array, places: Geometry, padded: tuple[int, ...], shape: tuple[int, ...]) -> Array:
    """Add gradients of windows (batch, channels, *out, *kernel) to the values they were taken from."""
    dx = np.zeros(padded, parts.dtype)
    for index, meets in places.taps():
        dx[meets] += parts[index]
    return dx[places.inside(shape[2:])]
