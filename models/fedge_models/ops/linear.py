"""Matrix products."""

from __future__ import annotations

import numpy as np

from .arithmetic import unbroadcast
from .operator import Array, Backprop, Grads, Node


def gemm(node: Node, a: Array, b: Array, c: Array | None = None) -> tuple[Array, Backprop]:
    """ONNX Gemm: ``alpha * A' @ B' + beta * C``; A is the activation (batch, in), C the bias."""
    alpha, beta = node.attr("alpha", 1.0), node.attr("beta", 1.0)
    left = a.T if node.attr("transA", 0) else a
    right = b.T if node.attr("transB", 0) else b
    y = np.matmul(left, right, out=node.buffer("y", (left.shape[0], right.shape[1])))
    if alpha != 1.0:
        y *= alpha
    if c is not None:
        y += c if beta == 1.0 else beta * c

    def backprop(dy: Array) -> Grads:
        scaled = dy if alpha == 1.0 else alpha * dy
        grads: list[Array | None] = [None, None, None]
        if node.needs(0):
            da = np.matmul(scaled, right.T, out=node.buffer("da", left.shape))
            grads[0] = da.T if node.attr("transA", 0) else da
        if node.needs(1):
            pair = (scaled.T, left) if node.attr("transB", 0) else (left.T, scaled)
            grads[1] = np.matmul(*pair, out=node.gradient(1, b.shape))
        if c is not None and node.needs(2):
            grads[2] = _bias(node, dy, c, beta)
        return grads

    return y, backprop


def _bias(node: Node, dy: Array, c: Array, beta: float) -> Array:
    if c.shape != dy.shape[1:]:
        return beta * unbroadcast(dy, c.shape)
    out = np.add.reduce(dy, axis=0, out=node.gradient(2, c.shape))
    if beta != 1.0:
        out *= beta
    return out


def matmul(node: Node, a: Array, b: Array) -> tuple[Array, Backprop]:
    """ONNX MatMul with NumPy's batching rules; both operands have two dimensions or more."""

    def backprop(dy: Array) -> Grads:
        da = unbroadcast(dy @ np.swapaxes(b, -1, -2), a.shape) if node.needs(0) else None
        db = unbroadcast(np.swapaxes(a, -1, -2) @ dy, b.shape) if node.needs(1) else None
        return (da, db)

    return np.matmul(a, b), backprop
