# SPDX-License-Identifier: Apache-2.0
"""Operators that only move values, and the shape arithmetic that exporters emit for them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import ModelError
from ..protos import FLOAT, values
from .arithmetic import no_gradient, unbroadcast
from .operator import Array, Backprop, Grads, Node

Ints = NDArray[np.int64]
_TYPES = {
    FLOAT: np.float32, 2: np.uint8, 3: np.int8, 4: np.uint16, 5: np.int16, 6: np.int32, 7: np.int64, 9: np.bool_,
    11: np.float64, 12: np.uint32, 13: np.uint64,
}  # fmt: skip


def identity(node: Node, x: Array) -> tuple[Array, Backprop]:
    """The input itself."""
    return x, lambda dy: (dy,)


def flatten(node: Node, x: Array) -> tuple[Array, Backprop]:
    """Two dimensions: all before `axis` (1), all from it."""
    axis = node.attr("axis", 1)
    axis += x.ndim if axis < 0 else 0
    rows = math.prod(x.shape[:axis])
    return x.reshape(rows, math.prod(x.shape[axis:])), lambda dy: (dy.reshape(x.shape),)


def reshape(node: Node, x: Array, shape: Ints) -> tuple[Array, Backprop]:
    """The same values in another shape; 0 copies a dimension (unless allowzero), -1 is what remains."""
    wanted = [x.shape[i] if n == 0 and not node.attr("allowzero", 0) else int(n) for i, n in enumerate(shape)]
    return x.reshape(wanted), lambda dy: (dy.reshape(x.shape), None)


def transpose(node: Node, x: Array) -> tuple[Array, Backprop]:
    """Axes in the order `perm` (reversed)."""
    perm = node.attr("perm", list(range(x.ndim))[::-1])
    return x.transpose(perm), lambda dy: (dy.transpose(np.argsort(perm)),)


def axes_of(node: Node, given: Ints | None, default: Any) -> Any:
    """Axes from the second input (opset 13 and later) or the attribute (before)."""
    axes = given if given is not None else node.attr("axes", None)
    return tuple(int(a) for a in axes) if axes is not None and len(axes) else default


def squeeze(node: Node, x: Array, axes: Ints | None = None) -> tuple[Array, Backprop]:
    """Remove the given axes of length 1."""
    return x.squeeze(axes_of(node, axes, None)), lambda dy: (dy.reshape(x.shape), None)


def unsqueeze(node: Node, x: Array, axes: Ints | None = None) -> tuple[Array, Backprop]:
    """Add new axes of length 1."""
    return np.expand_dims(x, axes_of(node, axes, ())), lambda dy: (dy.reshape(x.shape), None)


def concat(node: Node, *xs: Array) -> tuple[Array, Backprop]:
    """Joined along `axis`."""
    axis = node.attr("axis", 0)
    borders = np.cumsum([x.shape[axis] for x in xs])[:-1]
    return np.concatenate(xs, axis=axis), lambda dy: tuple(np.split(dy, borders, axis=axis))


def split(node: Node, x: Array, sizes: Ints | None = None) -> tuple[Any, Backprop]:
    """Parts along `axis`, of the given sizes or (nearly) equal ones."""
    axis, count = node.attr("axis", 0), len(node.outputs)
    each = -(-x.shape[axis] // count)
    borders = np.cumsum(sizes if sizes is not None else [each] * count)[:-1]
    parts = tuple(np.split(x, borders, axis=axis))
    if count == 1:
        return x, lambda dy: (dy, None)

    def backprop(dys: Sequence[Array | None]) -> Grads:
        filled = [np.zeros_like(part) if dy is None else dy for part, dy in zip(parts, dys, strict=True)]
        return (np.concatenate(filled, axis=axis), None)

    return parts, backprop


def slice_(
    node: Node, x: Array, starts: Ints, ends: Ints, axes: Ints | None = None, steps: Ints | None = None
) -> tuple[Array, Backprop]:
    """From start to end by step along the axes (the first ones)."""
    over = axes.tolist() if axes is not None else range(len(starts))
    by = steps.tolist() if steps is not None else [1] * len(starts)
    chosen = [slice(None)] * x.ndim
    for axis, start, end, step in zip(over, starts.tolist(), ends.tolist(), by, strict=True):
        size = x.shape[axis]
        beyond = step < 0 and end < -size  # down to the first entry: Python has no index for this end
        chosen[axis] = slice(start, None if beyond else end, step)
    index = tuple(chosen)

    def backprop(dy: Array) -> Grads:
        dx = np.zeros(x.shape, dy.dtype)
        dx[index] = dy
        return (dx, None, None, None, None)

    return x[index], backprop


def gather(node: Node, x: Array, indices: Ints) -> tuple[Array, Backprop]:
    """Entries of x by index along `axis`; the gradients of a repeated index are added."""
    axis = node.attr("axis", 0) % max(x.ndim, 1)
    return np.take(x, indices, axis=axis), lambda dy: (_scatter(dy, x.shape, axis, indices), None)


def _scatter(dy: Array, shape: tuple[int, ...], axis: int, indices: Ints) -> Array:
    """The gradient of `take`: an entry that was taken twice gets the sum."""
    dx, index = np.zeros(shape, dy.dtype), (*[slice(None)] * axis, indices)
    np.add.at(dx, index, dy)  # type: ignore[arg-type]  # its stub knows no slices
    return dx


def pad(
    node: Node, x: Array, pads: Ints, value: Array | None = None, axes: Ints | None = None
) -> tuple[Array, Backprop]:
    """Constant, reflected or repeated values before and after; negative pads cut off."""
    over = [a % x.ndim for a in axes.tolist()] if axes is not None else list(range(x.ndim))
    mode, half = node.attr("mode", b"constant").decode(), len(over)
    widths = [(int(pads[i]), int(pads[i + half])) for i in range(half)]
    if mode == "constant":
        return _pad_constant(node, x, over, widths, 0 if value is None else value)
    if mode not in ("reflect", "edge", "wrap") or min(min(w) for w in widths) < 0:
        raise ModelError(f"node {node.name!r} (Pad): mode {mode!r} with these pads is not supported")
    node.bound(x.size * math.prod(1 + sum(w) // max(1, x.shape[a]) for a, w in zip(over, widths, strict=True)))
    sources = [np.pad(np.arange(x.shape[a]), w, mode) for a, w in zip(over, widths, strict=True)]
    y = x
    for axis, source in zip(over, sources, strict=True):
        y = y.take(source, axis)

    def backprop(dy: Array) -> Grads:
        for axis, source in zip(over, sources, strict=True):
            dy = _scatter(dy, (*dy.shape[:axis], x.shape[axis], *dy.shape[axis + 1 :]), axis, source)
        return (dy, None, None, None)

    return y, backprop


def _pad_constant(
    node: Node, x: Array, over: Sequence[int], widths: Sequence[tuple[int, int]], value: Array | int
) -> tuple[Array, Backprop]:
    shape, there, here = list(x.shape), [slice(None)] * x.ndim, [slice(None)] * x.ndim
    for axis, (before, after) in zip(over, widths, strict=True):
        size = x.shape[axis]
        shape[axis] = size + before + after
        here[axis] = slice(max(0, -before), size - max(0, -after))
        there[axis] = slice(max(0, before), shape[axis] - max(0, after))
    node.bound(math.prod(shape))
    y = np.full(shape, value, x.dtype)
    y[tuple(there)] = x[tuple(here)]

    def backprop(dy: Array) -> Grads:
        dx = np.zeros(x.shape, dy.dtype)
        dx[tuple(here)] = dy[tuple(there)]
        return (dx, None, _outside(dy, there, value) if len(node.wanted) > 2 and node.needs(2) else None, None)

    return y, backprop


def _outside(dy: Array, there: Sequence[slice], value: Any) -> Array:
    """The gradient by Pad's value: the sum of all that lies outside."""
    rest = dy.copy()
    rest[tuple(there)] = 0
    return rest.sum().reshape(np.shape(value))


def expand(node: Node, x: Array, shape: Ints) -> tuple[Array, Backprop]:
    """Broadcast x and a shape against each other."""
    wanted = np.broadcast_shapes(x.shape, tuple(int(n) for n in shape))
    node.bound(math.prod(wanted))
    return np.broadcast_to(x, wanted), lambda dy: (unbroadcast(dy, x.shape), None)


def tile(node: Node, x: Array, repeats: Ints) -> tuple[Array, Backprop]:
    """x repeated along each axis."""
    times = [int(n) for n in repeats]
    node.bound(x.size * math.prod(times))
    split_up = [n for pair in zip(times, x.shape, strict=True) for n in pair]

    def backprop(dy: Array) -> Grads:
        return (dy.reshape(split_up).sum(axis=tuple(range(0, 2 * x.ndim, 2))), None)

    return np.tile(x, times), backprop


def range_(node: Node, start: Any, limit: Any, delta: Any) -> tuple[Array, Backprop]:
    """From start to below limit by delta."""
    count = max(0, math.ceil((limit - start) / delta))
    node.bound(count)
    steps = np.arange(count, dtype=start.dtype)
    y = (start + steps * delta).astype(start.dtype, copy=False)
    return y, lambda dy: (dy.sum().reshape(start.shape), None, (dy * steps).sum().reshape(delta.shape))


def trilu(node: Node, x: Array, k: Array | None = None) -> tuple[Array, Backprop]:
    """The upper (or lower) triangle of the last two axes, from the k-th diagonal on."""
    part, offset = (np.triu if node.attr("upper", 1) else np.tril), int(k) if k is not None else 0
    return part(x, offset), lambda dy: (part(dy, offset), None)


def cast(node: Node, x: Array) -> tuple[Array, Backprop]:
    """Convert to another type; the gradient passes between floats only."""
    wanted = node.attr("to", None)
    if wanted not in _TYPES:
        raise ModelError(
            f"node {node.name!r} (Cast): type {wanted} is not supported; expected float, double, bool or an integer"
        )
    return _as_type(x, node.dtype if wanted == FLOAT else _TYPES[wanted])


def cast_like(node: Node, x: Array, like: Array) -> tuple[Array, Backprop]:
    """Convert to the type of the second input."""
    return _as_type(x, like.dtype)


def _as_type(x: Array, to: Any) -> tuple[Array, Backprop]:
    y = x.astype(to, copy=False)
    if not x.dtype.kind == y.dtype.kind == "f":
        return y, no_gradient
    return y, lambda dy: (dy.astype(x.dtype, copy=False), None)


def shape_of(node: Node, x: Array) -> tuple[Ints, Backprop]:
    """The dimensions of x, from `start` to `end`."""
    sizes: Ints = np.array(x.shape, np.int64)[node.attr("start", 0) : node.attr("end", None)]
    return sizes, no_gradient


def size(node: Node, x: Array) -> tuple[Any, Backprop]:
    """How many values x has."""
    return np.array(x.size, np.int64), no_gradient


def eye_like(node: Node, x: Array) -> tuple[Array, Backprop]:
    """1 on the k-th diagonal of a matrix shaped as x, else 0."""
    wanted = node.attr("dtype", None)
    to = x.dtype if wanted is None else node.dtype if wanted == FLOAT else _TYPES.get(wanted)
    if to is None:
        node.refuse(f"type {wanted} is not supported; expected float, double, bool or an integer")
    rows, columns = x.shape
    return np.eye(rows, columns, k=node.attr("k", 0), dtype=to), no_gradient


def constant_of_shape(node: Node, shape: Ints) -> tuple[Array, Backprop]:
    """One value (0) everywhere."""
    node.bound(math.prod(int(n) for n in shape))
    value = node.attr("value", None)
    filler = values(value).ravel()[0] if value is not None else np.float32(0)
    return np.full([int(n) for n in shape], filler), no_gradient
