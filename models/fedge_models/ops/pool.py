"""Pooling over time."""

from __future__ import annotations

import numpy as np

from ..errors import ModelError
from .conv import padding
from .operator import Array, Backprop, Grads, Node


def _windows(node: Node, x: Array, fill: float) -> tuple[Array, int, int, int]:
    """View (batch, channels, steps, kernel) of x padded with `fill`; with padding before, stride, padded length."""
    if x.ndim != 3:
        raise ModelError(
            f"node {node.name!r} ({node.op_type}): only pooling over one axis can be trained in this version"
        )
    kernel, stride = node.attr("kernel_shape", None)[0], node.attr("strides", [1])[0]
    if node.attr("ceil_mode", 0) or node.attr("dilations", [1])[0] != 1:
        raise ModelError(f"node {node.name!r} ({node.op_type}): ceil_mode and dilations are not supported")
    before, after = padding(node, x.shape[2], kernel, stride, 1)
    if before or after:
        x = np.pad(x, ((0, 0), (0, 0), (before, after)), constant_values=fill)
    view = np.lib.stride_tricks.sliding_window_view(x, kernel, axis=2)[:, :, ::stride]
    return view, before, stride, x.shape[2]


def _spread(parts: Array, before: int, stride: int, padded: int, size: int) -> Array:
    """Add gradients of windows (batch, channels, steps, kernel) back onto the time axis."""
    batch, channels, steps, kernel = parts.shape
    dx = np.zeros((batch, channels, padded), parts.dtype)
    for k in range(kernel):
        dx[:, :, k : k + (steps - 1) * stride + 1 : stride] += parts[:, :, :, k]
    return dx[:, :, before : before + size]


def max_pool(node: Node, x: Array) -> tuple[Array, Backprop]:
    """Largest value of each window; the gradient goes to the first of equals."""
    view, before, stride, padded = _windows(node, x, -np.inf)
    chosen = view.argmax(axis=3)[..., None]
    y = np.take_along_axis(view, chosen, axis=3)[..., 0]

    def backprop(dy: Array) -> Grads:
        parts = np.zeros(view.shape, x.dtype)
        np.put_along_axis(parts, chosen, dy[..., None], axis=3)
        return (_spread(parts, before, stride, padded, x.shape[2]),)

    return y, backprop


def average_pool(node: Node, x: Array) -> tuple[Array, Backprop]:
    """Mean of each window; padding counts only with count_include_pad."""
    view, before, stride, padded = _windows(node, x, 0.0)
    share = x.dtype.type(1 / view.shape[3])
    if not node.attr("count_include_pad", 0) and padded != x.shape[2]:
        share = 1 / _windows(node, np.ones_like(x), 0.0)[0].sum(axis=3)

    def backprop(dy: Array) -> Grads:
        parts = np.broadcast_to((dy * share)[..., None], view.shape)
        return (_spread(parts, before, stride, padded, x.shape[2]),)

    return (view.sum(axis=3) * share).astype(x.dtype), backprop


def global_average_pool(node: Node, x: Array) -> tuple[Array, Backprop]:
    """Mean over everything after the channel axis, as a product with a vector of ones (faster than a reduction)."""
    size = x[0, 0].size
    ones = np.full(size, 1 / size, x.dtype)
    y = (x.reshape(*x.shape[:2], size) @ ones).reshape(*x.shape[:2], *(1,) * (x.ndim - 2))
    return y, lambda dy: (np.broadcast_to(dy * x.dtype.type(1 / size), x.shape),)


def global_max_pool(node: Node, x: Array) -> tuple[Array, Backprop]:
    """Largest of everything after the channel axis; equals share the gradient."""
    over = tuple(range(2, x.ndim))
    y = x.max(axis=over, keepdims=True)

    def backprop(dy: Array) -> Grads:
        largest = x == y
        return (largest * (dy / largest.sum(axis=over, keepdims=True, dtype=x.dtype)),)

    return y, backprop
