# SPDX-License-Identifier: Apache-2.0
"""Normalisation without parameters: by a norm, by mean and deviation, by neighbouring channels."""

from __future__ import annotations

import numpy as np

from .operator import Array, Backprop, Node


def lp_normalization(node: Node, x: Array) -> tuple[Array, Backprop]:
    """x over its norm along `axis` (-1): the sum of absolute values (p 1), or Euclid's (p 2, the default); 0 for 0."""
    axis, p = node.attr("axis", -1), node.attr("p", 2)
    if p not in (1, 2):
        node.refuse(f"p {p} is not supported; expected 1 or 2")
    norm = np.abs(x).sum(axis, keepdims=True) if p == 1 else np.sqrt((x * x).sum(axis, keepdims=True))
    inverse = np.divide(1, norm, out=np.zeros_like(norm), where=norm > 0)
    y = x * inverse
    slope = np.sign(x) if p == 1 else y  # of the norm
    return y, lambda dy: (inverse * (dy - slope * (dy * y).sum(axis, keepdims=True)),)


def mean_variance_normalization(node: Node, x: Array) -> tuple[Array, Backprop]:
    """(x - mean) / deviation over `axes` (batch and space)."""
    over = tuple(node.attr("axes", [0, 2, 3]))
    centred = x - x.mean(axis=over, keepdims=True)
    deviation = np.sqrt((centred * centred).mean(axis=over, keepdims=True))
    inverse = 1 / (deviation + x.dtype.type(1e-9))
    y = centred * inverse
    direction = np.divide(centred, deviation, out=np.zeros_like(x), where=deviation > 0)

    def backprop(dy: Array) -> tuple[Array]:
        along = (dy * y).mean(axis=over, keepdims=True)
        return (inverse * (dy - dy.mean(axis=over, keepdims=True) - direction * along),)

    return y, backprop


def local_response_normalization(node: Node, x: Array) -> tuple[Array, Backprop]:
    """ONNX LRN (Krizhevsky et al. 2012): x over a power of the squares of `size` neighbouring channels."""
    size, beta = node.attr("size", 1), x.dtype.type(node.attr("beta", 0.75))
    share = x.dtype.type(node.attr("alpha", 1e-4) / size)
    node.bound(x.shape[1] ** 2)
    number = np.arange(x.shape[1])
    apart = number - number[:, None]
    near = ((apart >= -((size - 1) // 2)) & (apart <= size // 2)).astype(x.dtype)
    base = x.dtype.type(node.attr("bias", 1.0)) + share * _over_channels(near, x * x)
    factor = base**-beta

    def backprop(dy: Array) -> tuple[Array]:
        through = _over_channels(near.T, dy * x * factor / base)
        return (dy * factor - 2 * share * beta * x * through,)

    return x * factor, backprop


def _over_channels(matrix: Array, x: Array) -> Array:
    """Apply a matrix to the channels of x (batch, channels, ...)."""
    flat: Array = matrix @ x.reshape(*x.shape[:2], -1)
    return flat.reshape(x.shape)
