# SPDX-License-Identifier: Apache-2.0
"""Matrix products."""

from __future__ import annotations

import numpy as np

from .arithmetic import unbroadcast
from .operator import Array, Backprop, Grads, Node


def gemm(node: Node, a: Array, b: Array, c: Array | None = None) -> tuple[Array, Backprop]:
    """ONNX Gemm: ``alpha * A' @ B' + beta * C``; A is the activation (batch, in), C the bias."""
    plan = node.plan(a.shape)
    if plan is None or plan.b is not b or plan.c is not c:
        if not is_dense(node, b, c):
            return _gemm(node, a, b, c)
        plan = node.store_plan(a.shape, Dense(node, a.shape, b, c))
    return plan.forward(a), plan.backprop


def is_dense(node: Node, b: Array, c: Array | None) -> bool:
    """Whether a Gemm is a plain dense layer: ``A @ B' + C`` with one bias for each output."""
    attr = node.attributes.get
    plain = attr("alpha", 1.0) == 1.0 and attr("beta", 1.0) == 1.0 and not attr("transA", 0)
    return plain and (c is None or (c.ndim == 1 and c.size == b.shape[0 if attr("transB", 0) else 1]))


class Dense:
    """A dense layer, with or without Relu, for one shape of input (..., in); it allocates nothing while it runs.

    `ndarray.dot` costs a microsecond less than `np.matmul`. A sum over the rows as a product with ones costs two less
    than a reduction. On small layers that is half of the time.
    """

    def __init__(self, node: Node, shape: tuple[int, ...], b: Array, c: Array | None) -> None:
        self.b, self.c = b, c
        self._node, self._swapped = node, bool(node.attr("transB", 0))
        self._right = b.T if self._swapped else b
        rows, inputs = int(np.prod(shape[:-1])), shape[-1]
        self._flat, self._x = (rows, inputs), np.empty(0, node.dtype)
        self._h = np.empty((rows, self._right.shape[1]), node.dtype)
        self._y = self._h.reshape(*shape[:-1], -1)
        self._shape, self._ones = shape, np.ones(rows, node.dtype)
        self._zero = np.zeros((), node.dtype) if node.follows("Relu") else None
        if any(node.wanted):
            self._room()

    def _room(self) -> None:
        """Allocate the buffers of `backprop`."""
        node, like = self._node, self._h
        self._alive, self._dz = np.empty(like.shape, np.bool_), np.empty_like(like)
        self._left = self._right.T
        self._dx = np.empty(self._flat, node.dtype) if node.needs(0) else None
        self._dx_shaped = None if self._dx is None else self._dx.reshape(self._shape)
        self._db = node.gradient(1, self.b.shape) if node.needs(1) else None
        self._dc = node.gradient(2, self.c.shape) if self.c is not None and node.needs(2) else None

    def forward(self, x: Array) -> Array:
        """x (..., in) to (..., out)."""
        self._x = x = x if x.ndim == 2 else x.reshape(self._flat)
        h = self._h
        x.dot(self._right, h)
        if self.c is not None:
            np.add(h, self.c, out=h)
        if self._zero is not None:
            np.maximum(h, self._zero, out=h)
        return self._y

    def backprop(self, dy: Array) -> Grads:
        """dy (..., out) to the gradients by input, weights and bias."""
        dz = dy if dy.ndim == 2 else dy.reshape(self._h.shape)
        if self._zero is not None:  # 0 where the output is 0
            dz = np.multiply(dz, np.greater(self._h, self._zero, out=self._alive), out=self._dz)
        if self._db is not None:
            if self._swapped:
                dz.T.dot(self._x, self._db)
            else:
                self._x.T.dot(dz, self._db)
        if self._dc is not None:
            self._ones.dot(dz, self._dc)
        if self._dx is None:
            return (None, self._db, self._dc)
        dz.dot(self._left, self._dx)
        return (self._dx_shaped, self._db, self._dc)


def _gemm(node: Node, a: Array, b: Array, c: Array | None) -> tuple[Array, Backprop]:
    """Run any Gemm."""
    alpha, beta = node.attr("alpha", 1.0), node.attr("beta", 1.0)
    left = a.T if node.attr("transA", 0) else a
    right = b.T if node.attr("transB", 0) else b
    y = alpha * (left @ right)
    if c is not None:
        y += beta * c

    def backprop(dy: Array) -> Grads:
        grads: list[Array | None] = [None, None, None]
        scaled = alpha * dy
        if node.needs(0):
            grads[0] = right @ scaled.T if node.attr("transA", 0) else scaled @ right.T
        if node.needs(1):
            pair = (scaled.T, left) if node.attr("transB", 0) else (left.T, scaled)
            grads[1] = np.matmul(*pair, out=node.gradient(1, b.shape))
        if c is not None and node.needs(2):
            grads[2] = beta * unbroadcast(dy, c.shape)
        return grads

    return y, backprop


def matmul(node: Node, a: Array, b: Array) -> tuple[Array, Backprop]:
    """ONNX MatMul with NumPy's rules for batches and for vectors."""

    def backprop(dy: Array) -> Grads:
        left, right = (a[None] if a.ndim == 1 else a), (b[:, None] if b.ndim == 1 else b)
        if a.ndim == 1 or b.ndim == 1:
            dy = dy.reshape((*np.broadcast_shapes(left.shape[:-2], right.shape[:-2]), left.shape[-2], right.shape[-1]))
        da = unbroadcast(dy @ np.swapaxes(right, -1, -2), left.shape).reshape(a.shape) if node.needs(0) else None
        db = unbroadcast(np.swapaxes(left, -1, -2) @ dy, right.shape).reshape(b.shape) if node.needs(1) else None
        return (da, db)

    return np.matmul(a, b), backprop
