"""Elementwise arithmetic with NumPy's (and ONNX's) broadcasting.

Integers pass through, without gradients: exporters compute shapes with it.
"""

from __future__ import annotations

import numpy as np

from .operator import Array, Backprop, Grads, Node


def add(node: Node, a: Array, b: Array) -> tuple[Array, Backprop]:
    """A + B."""
    return a + b, lambda dy: (unbroadcast(dy, a.shape), unbroadcast(dy, b.shape))


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


def clip(node: Node, x: Array, low: Array | None = None, high: Array | None = None) -> tuple[Array, Backprop]:
    """x between two bounds; the gradient at a bound is that of x, as in PyTorch."""
    y = x
    if low is not None:
        y = np.maximum(y, low)
    if high is not None:
        y = np.minimum(y, high)
    return y, lambda dy: (dy * (x == y), None, None)


def no_gradient(dy: Array) -> Grads:
    """Of integers: none."""
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
