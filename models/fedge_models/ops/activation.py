# SPDX-License-Identifier: Apache-2.0
"""Elementwise activations and Softmax."""

from __future__ import annotations

from typing import Any

import numpy as np

from .arithmetic import above_zero, masked, unbroadcast
from .layout import pieces
from .operator import Array, Backprop, Grads, Node


def relu(node: Node, x: Array) -> tuple[Array, Backprop]:
    """max(x, 0); the gradient at 0 is 0, as in ONNX Runtime and PyTorch."""
    y = node.workspace.like(x)
    for values, made in pieces(x, y):
        above_zero(node, values, made)
    return y, lambda dy: (masked(node, y, dy),)


def leaky_relu(node: Node, x: Array) -> tuple[Array, Backprop]:
    """x where x > 0, else alpha * x (alpha 0.01)."""
    slope = np.where(x > 0, x.dtype.type(1), x.dtype.type(node.attr("alpha", 0.01)))
    return x * slope, lambda dy: (dy * slope,)


def elu(node: Node, x: Array) -> tuple[Array, Backprop]:
    """x where x > 0, else alpha * (exp(x) - 1) (Clevert et al. 2016)."""
    alpha = x.dtype.type(node.attr("alpha", 1.0))
    y = np.where(x > 0, x, alpha * np.expm1(np.minimum(x, 0)))
    return y, lambda dy: (dy * np.where(x > 0, x.dtype.type(1), y + alpha),)


def prelu(node: Node, x: Array, slope: Array) -> tuple[Array, Backprop]:
    """x where x >= 0, else slope * x with a learned slope (He et al. 2015)."""
    below = x < 0

    def backprop(dy: Array) -> Grads:
        dx = dy * np.where(below, slope, x.dtype.type(1)) if node.needs(0) else None
        ds = unbroadcast(dy * np.where(below, x, 0), slope.shape) if node.needs(1) else None
        return (dx, ds)

    return np.where(below, slope * x, x), backprop


def selu(node: Node, x: Array) -> tuple[Array, Backprop]:
    """gamma * Elu with alpha (Klambauer et al. 2017)."""
    alpha = x.dtype.type(node.attr("alpha", 1.6732631921768188))
    gamma = x.dtype.type(node.attr("gamma", 1.0507010221481323))
    y: Array = gamma * np.where(x > 0, x, alpha * np.expm1(np.minimum(x, 0)))
    return y, lambda dy: (dy * np.where(x > 0, gamma, y + gamma * alpha),)


def gelu(node: Node, x: Array) -> tuple[Array, Backprop]:
    """x times the normal distribution function of x, or its tanh approximation (Hendrycks & Gimpel 2016)."""
    if node.attr("approximate", b"none") == b"tanh":
        c = x.dtype.type(np.sqrt(2 / np.pi))
        t = np.tanh(c * (x + x.dtype.type(0.044715) * x**3))
        slope = (1 + t) / 2 + x * (1 - t * t) * c * (1 + x.dtype.type(3 * 0.044715) * x * x) / 2
        return x * (1 + t) / 2, lambda dy: (dy * slope,)
    root = x.dtype.type(0.5**0.5)
    below = x.dtype.type(0.5) * (1 + _erf(root * x))
    density = np.exp(-x * x / 2) * x.dtype.type((2 * np.pi) ** -0.5)
    return x * below, lambda dy: (dy * (below + x * density),)


def erf(node: Node, x: Array) -> tuple[Array, Backprop]:
    """The error function, which exporters write for Gelu before opset 20."""
    slope = np.exp(-x * x) * x.dtype.type(2 / np.pi**0.5)
    return _erf(x), lambda dy: (dy * slope,)


def _erf(x: Array) -> Array:
    """The error function to 1.5e-7 (Abramowitz & Stegun 1964, 7.1.26)."""
    t = 1 / (1 + x.dtype.type(0.3275911) * np.abs(x))
    series = x.dtype.type(1.061405429)
    for c in (-1.453152027, 1.421413741, -0.284496736, 0.254829592):
        series = series * t + x.dtype.type(c)
    y: Array = np.sign(x) * (1 - series * t * np.exp(-x * x))
    return y


def hard_sigmoid(node: Node, x: Array) -> tuple[Array, Backprop]:
    """alpha * x + beta between 0 and 1 (alpha 0.2, beta 0.5)."""
    alpha, beta = x.dtype.type(node.attr("alpha", 0.2)), x.dtype.type(node.attr("beta", 0.5))
    line = alpha * x + beta
    return np.clip(line, 0, 1), lambda dy: (dy * (alpha * ((line > 0) & (line < 1))),)


def hard_swish(node: Node, x: Array) -> tuple[Array, Backprop]:
    """x * (x / 6 + 1/2 between 0 and 1) (Howard et al. 2019)."""
    line = x / 6 + x.dtype.type(0.5)
    gate = np.clip(line, 0, 1)
    return x * gate, lambda dy: (dy * (gate + ((line > 0) & (line < 1)) * x / 6),)


def softplus(node: Node, x: Array) -> tuple[Array, Backprop]:
    """log(1 + exp(x)), without overflow."""
    y = np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x)))
    return y, lambda dy: (dy * np.exp(x - y),)


def sigmoid(node: Node, x: Array) -> tuple[Array, Backprop]:
    """1 / (1 + exp(-x)), through tanh so that nothing overflows."""
    y = logistic(x)
    return y, lambda dy: (dy * y * (1 - y),)


def logistic(x: Array) -> Array:
    """1 / (1 + exp(-x))."""
    half = x.dtype.type(0.5)
    y: Array = half * (np.tanh(half * x) + 1)
    return y


def swish(node: Node, x: Array) -> tuple[Array, Backprop]:
    """x times the sigmoid of alpha * x (alpha 1) (Ramachandran et al. 2017)."""
    alpha = x.dtype.type(node.attr("alpha", 1.0))
    gate = logistic(alpha * x)
    return x * gate, lambda dy: (dy * gate * (1 + alpha * x * (1 - gate)),)


def mish(node: Node, x: Array) -> tuple[Array, Backprop]:
    """x * tanh(softplus(x)) (Misra 2019)."""
    t = np.tanh(np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x))))
    return x * t, lambda dy: (dy * (t + x * (1 - t * t) * logistic(x)),)


def celu(node: Node, x: Array) -> tuple[Array, Backprop]:
    """max(x, 0) + min(0, alpha * (exp(x / alpha) - 1)) (Barron 2017)."""
    alpha = x.dtype.type(node.attr("alpha", 1.0))
    low = np.exp(np.minimum(x, 0) / alpha)
    return np.maximum(x, 0) + alpha * (low - 1), lambda dy: (dy * np.where(x > 0, x.dtype.type(1), low),)


def thresholded_relu(node: Node, x: Array) -> tuple[Array, Backprop]:
    """x where x > alpha, else 0 (Konda et al. 2014)."""
    above = x > node.attr("alpha", 1.0)
    return x * above, lambda dy: (dy * above,)


def shrink(node: Node, x: Array) -> tuple[Array, Backprop]:
    """0 between -lambd and lambd (0.5), else x moved towards 0 by `bias` (0)."""
    limit, bias = node.attr("lambd", 0.5), node.attr("bias", 0.0)
    below, above = x < -limit, x > limit
    y = np.where(below, x + x.dtype.type(bias), np.where(above, x - x.dtype.type(bias), x.dtype.type(0)))
    return y.astype(x.dtype, copy=False), lambda dy: (dy * (below | above),)


def softsign(node: Node, x: Array) -> tuple[Array, Backprop]:
    """x / (1 + |x|)."""
    below = 1 + np.abs(x)
    return x / below, lambda dy: (dy / (below * below),)


def tanh(node: Node, x: Array) -> tuple[Array, Backprop]:
    """Hyperbolic tangent."""
    y = np.tanh(x, out=node.like("y", x))
    return y, lambda dy: (dy * (1 - y * y),)


def softmax(node: Node, x: Array) -> tuple[Array, Backprop]:
    """exp(x) / sum(exp(x)) along `axis` (-1), shifted by the maximum.

    A row of minus infinity is not a number. An exported attention mask replaces it; then it passes no gradient.
    """
    axis = node.attr("axis", -1)
    y = np.exp(x - x.max(axis=axis, keepdims=True))
    y /= y.sum(axis=axis, keepdims=True)

    def backprop(dy: Array) -> Grads:
        along = (dy * y).sum(axis=axis, keepdims=True)
        dx = y * (dy - along)
        if np.isnan(along).any():
            dx[np.broadcast_to(np.isnan(along) & ~dy.any(axis=axis, keepdims=True), dx.shape)] = 0
        return (dx,)

    return y, backprop


def log_softmax(node: Node, x: Array) -> tuple[Array, Backprop]:
    """Logarithm of Softmax along `axis` (-1)."""
    axis = node.attr("axis", -1)
    shifted = x - x.max(axis=axis, keepdims=True)
    y = shifted - np.log(np.exp(shifted).sum(axis=axis, keepdims=True))
    return y, lambda dy: (dy - np.exp(y) * dy.sum(axis=axis, keepdims=True),)


def dropout(node: Node, x: Array, ratio: Array | None = None, training: Array | None = None) -> tuple[Any, Backprop]:
    """In training, 0 with probability `ratio` and x / (1 - ratio) otherwise (Srivastava et al. 2014); else x.

    The mask, true where a value stays, is an output where it is read.
    """
    share = float(ratio) if ratio is not None else 0.5
    if node.rng is None or share == 0:
        if len(node.outputs) == 1:
            return x, lambda dy: (dy, None, None)
        return (x, np.ones(x.shape, np.bool_)), lambda dys: (dys[0], None, None)
    stays = node.rng.random(x.shape, np.float32) >= share
    mask = stays / x.dtype.type(1 - share)
    if len(node.outputs) == 1:
        return x * mask, lambda dy: (dy * mask, None, None)
    return (x * mask, stays), lambda dys: (None if dys[0] is None else dys[0] * mask, None, None)
