"""Elementwise activations and Softmax."""

from __future__ import annotations

import numpy as np

from .operator import Array, Backprop, Node


def relu(node: Node, x: Array) -> tuple[Array, Backprop]:
    """max(x, 0); the gradient at 0 is 0, as in ONNX Runtime and PyTorch."""
    y = np.maximum(x, 0, out=node.buffer("y", x.shape))

    def backprop(dy: Array) -> tuple[Array]:
        alive = np.greater(y, 0, out=node.buffer("alive", x.shape, np.bool_))
        return (np.multiply(dy, alive, out=node.buffer("dx", x.shape)),)

    return y, backprop


def leaky_relu(node: Node, x: Array) -> tuple[Array, Backprop]:
    """x where x > 0, else alpha * x (alpha 0.01)."""
    slope = np.where(x > 0, np.float32(1), np.float32(node.attr("alpha", 0.01)))
    return x * slope, lambda dy: (dy * slope,)


def elu(node: Node, x: Array) -> tuple[Array, Backprop]:
    """x where x > 0, else alpha * (exp(x) - 1) (Clevert et al. 2016)."""
    alpha = np.float32(node.attr("alpha", 1.0))
    y = np.where(x > 0, x, alpha * np.expm1(np.minimum(x, 0)))
    return y, lambda dy: (dy * np.where(x > 0, np.float32(1), y + alpha),)


def sigmoid(node: Node, x: Array) -> tuple[Array, Backprop]:
    """1 / (1 + exp(-x)), through tanh so that nothing overflows."""
    y = np.float32(0.5) * (np.tanh(np.float32(0.5) * x) + np.float32(1))
    return y, lambda dy: (dy * y * (1 - y),)


def tanh(node: Node, x: Array) -> tuple[Array, Backprop]:
    """Hyperbolic tangent."""
    y = np.tanh(x, out=node.buffer("y", x.shape))
    return y, lambda dy: (dy * (1 - y * y),)


def softmax(node: Node, x: Array) -> tuple[Array, Backprop]:
    """exp(x) / sum(exp(x)) along `axis` (-1), shifted by the maximum."""
    axis = node.attr("axis", -1)
    y = np.exp(x - x.max(axis=axis, keepdims=True))
    y /= y.sum(axis=axis, keepdims=True)
    return y, lambda dy: (y * (dy - (dy * y).sum(axis=axis, keepdims=True)),)
