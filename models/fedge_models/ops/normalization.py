# SPDX-License-Identifier: Apache-2.0
"""Normalisation over a layer, an instance or a group of channels."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from .arithmetic import unbroadcast
from .operator import Array, Backprop, Grads, Node


def layer_normalization(node: Node, x: Array, scale: Array, bias: Array | None = None) -> tuple[Any, Backprop]:
    """ONNX LayerNormalization (Ba et al. 2016) over the axes from `axis` (-1).

    Its mean and the inverse of its standard deviation are outputs where they are read.
    """
    over = tuple(range(node.attr("axis", -1) % x.ndim, x.ndim))
    epsilon = x.dtype.type(node.attr("epsilon", 1e-5))
    normal, back = _normalise(x, over, epsilon)
    y, backprop = _affine(node, normal, back, scale, bias, scale.shape)
    if len(node.outputs) == 1:
        return y, backprop
    mean, count = x.mean(axis=over, keepdims=True), x.size // max(1, math.prod(x.shape[: over[0]]))
    inverse = 1 / np.sqrt(np.square(x - mean).mean(axis=over, keepdims=True) + epsilon)

    def through_all(dys: Sequence[Array | None]) -> Grads:
        dy, dm, di = (*dys, None)[:3]
        grads: list[Any] = [*backprop(np.zeros_like(y) if dy is None else dy)]
        if grads[0] is not None and dm is not None:
            grads[0] = grads[0] + dm / count
        if grads[0] is not None and di is not None:
            grads[0] = grads[0] - di * np.square(inverse) * normal / count
        return grads

    return (y, mean, inverse)[: len(node.outputs)], through_all


def rms_normalization(node: Node, x: Array, scale: Array) -> tuple[Array, Backprop]:
    """ONNX RMSNormalization (Zhang & Sennrich 2019) over the axes from `axis` (-1): by the root mean square only."""
    over = tuple(range(node.attr("axis", -1) % x.ndim, x.ndim))
    epsilon = x.dtype.type(node.attr("epsilon", 1e-5))
    inverse = 1 / np.sqrt((x * x).mean(axis=over, keepdims=True) + epsilon)
    normal = x * inverse

    def back(slope: Array) -> Array:
        along: Array = (slope * normal).mean(axis=over, keepdims=True)
        return inverse * (slope - normal * along)

    return _affine(node, normal, back, scale, None, scale.shape)


def instance_normalization(node: Node, x: Array, scale: Array, bias: Array) -> tuple[Array, Backprop]:
    """ONNX InstanceNormalization (Ulyanov et al. 2016): each channel of each sample by itself."""
    normal, back = _normalise(x, tuple(range(2, x.ndim)), x.dtype.type(node.attr("epsilon", 1e-5)))
    return _affine(node, normal, back, scale, bias, (-1, *(1,) * (x.ndim - 2)))


def group_normalization(node: Node, x: Array, scale: Array, bias: Array) -> tuple[Array, Backprop]:
    """ONNX GroupNormalization (Wu & He 2018; opset 21), with scale and bias of each channel."""
    parts = x.reshape(len(x), node.attr("num_groups", 1), -1)
    normal, back = _normalise(parts, (2,), x.dtype.type(node.attr("epsilon", 1e-5)))

    def through(slope: Array) -> Array:
        whole: Array = back(slope.reshape(parts.shape)).reshape(x.shape)
        return whole

    return _affine(node, normal.reshape(x.shape), through, scale, bias, (-1, *(1,) * (x.ndim - 2)))


def _affine(
    node: Node, normal: Array, back: Any, scale: Array, bias: Array | None, shape: tuple[int, ...]
) -> tuple[Array, Backprop]:
    """Compute normal * scale + bias, with scale and bias reshaped to `shape`."""
    wide = scale.reshape(shape)

    def backprop(dy: Array) -> Grads:
        dx = back(dy * wide) if node.needs(0) else None
        ds = unbroadcast(dy * normal, wide.shape).reshape(scale.shape) if node.needs(1) else None
        if bias is None:
            return (dx, ds)
        db = unbroadcast(dy, bias.reshape(shape).shape).reshape(bias.shape) if node.needs(2) else None
        return (dx, ds, db)

    y = normal * wide
    return (y if bias is None else y + bias.reshape(shape)), backprop


def _normalise(x: Array, over: tuple[int, ...], epsilon: Any) -> tuple[Array, Any]:
    """Normalise x to mean 0 and variance 1 over some axes; return it and the function that propagates a gradient."""
    centred = x - x.mean(axis=over, keepdims=True)
    inverse = 1 / np.sqrt((centred * centred).mean(axis=over, keepdims=True) + epsilon)
    normal = centred * inverse

    def back(slope: Array) -> Array:
        along = (slope * normal).mean(axis=over, keepdims=True)
        return inverse * (slope - slope.mean(axis=over, keepdims=True) - normal * along)

    return normal, back
