# SPDX-License-Identifier: Apache-2.0
"""Elementwise arithmetic with NumPy's (and ONNX's) broadcasting.

Integers are allowed, without gradients: exporters compute shapes with them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import reduce
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .layout import pieces
from .operator import Array, Backprop, Grads, Node, Operator


def add(node: Node, a: Array, b: Array) -> tuple[Array, Backprop]:
    """A + B, and Relu where it is fused."""
    relu, shapes = node.follows("Relu") is not None, (a.shape, b.shape)  # a and b may be given up
    alike = a.shape == b.shape and a.dtype == b.dtype and a.strides == b.strides
    y = node.workspace.like(a) if alike else a + b
    for left, right, made in pieces(a, b, y) if alike else ():
        np.add(left, right, out=made)
        if relu:
            above_zero(node, made, made)
    if relu and not alike:
        np.maximum(y, 0, out=y)
    kept = y if relu else None

    def backprop(dy: Array) -> Grads:
        if kept is not None:
            dy = masked(node, kept, dy)
        return (unbroadcast(dy, shapes[0]), unbroadcast(dy, shapes[1]))

    return y, backprop


def above_zero(node: Node, x: Array, out: Array) -> None:
    """Write max(x, 0)."""
    np.maximum(x, node.workspace.zeros(x.size, x.dtype) if x.ndim == 1 else 0, out=out)


def masked(node: Node, y: Array, dy: Array) -> Array:
    """Return dy where the output y of Relu is above 0, else 0."""
    dx: Array = node.workspace.like(y)
    for values, slopes, made in pieces(y, dy, dx):
        np.multiply(slopes, np.greater(values, 0), out=made)
    return dx


def sub(node: Node, a: Array, b: Array) -> tuple[Array, Backprop]:
    """A - B."""
    return a - b, lambda dy: (unbroadcast(dy, a.shape), unbroadcast(-dy, b.shape))


def mul(node: Node, a: Array, b: Array) -> tuple[Array, Backprop]:
    """A * B."""

    def backprop(dy: Array) -> Grads:
        da = unbroadcast(dy * b, a.shape) if node.needs(0) else None
        db = unbroadcast(dy * a, b.shape) if node.needs(1) else None
        return (da, db)

    return a * b, backprop


def div(node: Node, a: Array, b: Array) -> tuple[Array, Backprop]:
    """A / B; integers are divided towards zero."""
    if a.dtype.kind in "iu":
        return (np.sign(a) * np.sign(b) * (abs(a) // abs(b))).astype(a.dtype), no_gradient
    y: Array = a / b

    def backprop(dy: Array) -> Grads:
        da = unbroadcast(dy / b, a.shape) if node.needs(0) else None
        db = unbroadcast(-dy * y / b, b.shape) if node.needs(1) else None
        return (da, db)

    return y, backprop


def pow_(node: Node, a: Array, b: Array) -> tuple[Array, Backprop]:
    """A to the power of B; the gradient by B is 0 where A is not positive."""
    y = np.power(a, b).astype(a.dtype, copy=False)

    def backprop(dy: Array) -> Grads:
        da = unbroadcast(dy * b * np.power(a, b - 1), a.shape).astype(a.dtype) if node.needs(0) else None
        db = None
        if node.needs(1):
            db = unbroadcast(dy * y * np.log(np.where(a > 0, a, 1)), b.shape).astype(a.dtype)
        return (da, db)

    return y, backprop


def sqrt(node: Node, x: Array) -> tuple[Array, Backprop]:
    """Square root."""
    y = np.sqrt(x)
    return y, lambda dy: (dy / (2 * y),)


def exp(node: Node, x: Array) -> tuple[Array, Backprop]:
    """Exponential."""
    y = np.exp(x)
    return y, lambda dy: (dy * y,)


def log(node: Node, x: Array) -> tuple[Array, Backprop]:
    """Natural logarithm."""
    return np.log(x), lambda dy: (dy / x,)


def neg(node: Node, x: Array) -> tuple[Array, Backprop]:
    """-x."""
    return -x, lambda dy: (-dy,)


def abs_(node: Node, x: Array) -> tuple[Array, Backprop]:
    """|x|; the gradient at 0 is 0."""
    return np.abs(x), lambda dy: (dy * np.sign(x),)


def reciprocal(node: Node, x: Array) -> tuple[Array, Backprop]:
    """1 / x."""
    y = np.reciprocal(x)
    return y, lambda dy: (-dy * y * y,)


def sign(node: Node, x: Array) -> tuple[Array, Backprop]:
    """-1, 0 or 1; no gradient."""
    return np.sign(x), no_gradient


def rounding(ufunc: Callable[[Array], Array]) -> Operator:
    """Make an operator that rounds up, down or to the nearest integer (ties to even): no gradient."""

    def run(node: Node, x: Array) -> tuple[Array, Backprop]:
        return ufunc(x), no_gradient

    return run


def mod(node: Node, a: Array, b: Array) -> tuple[Array, Backprop]:
    """The remainder of A / B, with the sign of B, or (fmod) of A.

    The gradient by A is 1, that by B minus the whole part of A / B.
    """
    y = np.fmod(a, b) if node.attr("fmod", 0) else np.mod(a, b)
    if a.dtype.kind in "iu":
        return y, no_gradient
    whole = np.trunc(a / b) if node.attr("fmod", 0) else np.floor(a / b)
    return y, lambda dy: (unbroadcast(dy, a.shape), unbroadcast(-dy * whole, b.shape) if node.needs(1) else None)


def sum_(node: Node, *xs: Array) -> tuple[Array, Backprop]:
    """The sum of all inputs."""
    return reduce(np.add, xs), lambda dy: tuple(unbroadcast(dy, x.shape) for x in xs)


def mean(node: Node, *xs: Array) -> tuple[Array, Backprop]:
    """The mean of all inputs."""
    share = xs[0].dtype.type(1 / len(xs))
    return reduce(np.add, xs) * share, lambda dy: tuple(unbroadcast(dy * share, x.shape) for x in xs)


def max_(node: Node, *xs: Array) -> tuple[Array, Backprop]:
    """The largest of all inputs; equal ones share the gradient."""
    return _extreme(reduce(np.maximum, xs), xs)


def min_(node: Node, *xs: Array) -> tuple[Array, Backprop]:
    """The smallest of all inputs; equal ones share the gradient."""
    return _extreme(reduce(np.minimum, xs), xs)


def _extreme(y: Array, xs: Sequence[Array]) -> tuple[Array, Backprop]:
    def backprop(dy: Array) -> Grads:
        hits = [y == x for x in xs]
        share = dy / np.add.reduce([h.astype(dy.dtype) for h in hits])
        return tuple(unbroadcast(share * h, x.shape) for h, x in zip(hits, xs, strict=True))

    return y, backprop


def where(node: Node, condition: NDArray[np.bool_], a: Array, b: Array) -> tuple[Array, Backprop]:
    """A where the condition holds, else B."""

    def backprop(dy: Array) -> Grads:
        da = unbroadcast(np.where(condition, dy, 0), a.shape) if node.needs(1) else None
        db = unbroadcast(np.where(condition, 0, dy), b.shape) if node.needs(2) else None
        return (None, da, db)

    return np.where(condition, a, b), backprop


def compare(relation: Callable[..., Any]) -> Operator:
    """Make an operator with a truth value for each element: no gradient."""

    def run(node: Node, *xs: Array) -> tuple[Any, Backprop]:
        return relation(*xs), no_gradient

    return run


def is_inf(node: Node, x: Array) -> tuple[Any, Backprop]:
    """Whether each element is infinite, on the sides that `detect_negative` and `detect_positive` (1) name."""
    low, high = bool(node.attr("detect_negative", 1)), bool(node.attr("detect_positive", 1))
    return np.isinf(x) & ((x < 0) & low | (x > 0) & high), no_gradient


def clip(node: Node, x: Array, low: Array | None = None, high: Array | None = None) -> tuple[Array, Backprop]:
    """x between two bounds; the gradient at a bound is that of x, as in PyTorch. Beyond it, it is the bound's."""
    memory, by_bounds = node.workspace, any(node.wanted[1:])
    y, inside = memory.like(x), memory.like(x, np.bool_)
    for values, made, same in pieces(x, y, inside):
        if low is not None and high is not None:
            np.clip(values, low, high, out=made)  # a third of the time of the two below
        elif low is not None:
            np.maximum(values, low, out=made)
        elif high is not None:
            np.minimum(values, high, out=made)
        else:
            np.copyto(made, values)
        np.equal(values, made, out=same)
    kept = x if by_bounds else None

    def backprop(dy: Array) -> Grads:
        dx = memory.like(inside, dy.dtype)
        for slopes, same, made in pieces(dy, inside, dx):
            np.multiply(slopes, same, out=made)
        return (dx, *(_by_bounds(kept, dy, low, high) if kept is not None else (None, None)))

    return y, backprop


def _by_bounds(x: Array, dy: Array, low: Array | None, high: Array | None) -> Grads:
    """Return the gradients of Clip by its bounds."""
    above = np.zeros_like(x, np.bool_) if high is None else np.maximum(x, low if low is not None else x) > high
    below = np.zeros_like(x, np.bool_) if low is None else (x < low) & ~above
    sides = [(low, below), (high, above)]
    return [None if b is None else (dy * side).sum().reshape(b.shape) for b, side in sides]


def no_gradient(dy: Array) -> Grads:
    """The gradients of integers: none."""
    return ()


def unbroadcast(grad: Array, shape: tuple[int, ...]) -> Array:
    """Sum a gradient over the axes that broadcasting added or stretched."""
    if grad.shape == shape:
        return grad
    extra = grad.ndim - len(shape)
    if extra:
        grad = grad.sum(axis=tuple(range(extra)))
    stretched = tuple(i for i, n in enumerate(shape) if n == 1 and grad.shape[i] != 1)
    return grad.sum(axis=stretched, keepdims=True) if stretched else grad
