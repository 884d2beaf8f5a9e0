# SPDX-License-Identifier: Apache-2.0
"""Transposed convolution: a convolution's gradient by its input, run forwards (Zeiler et al. 2010)."""

from __future__ import annotations

import numpy as np

from ..geometry import Geometry
from ..operator import Array, Backprop, Grads, Node


def conv_transpose(node: Node, x: Array, w: Array, b: Array | None = None) -> tuple[Array, Backprop]:
    """ONNX ConvTranspose for x (batch, in, *spatial), w (in, out / group, *kernel), b (out,)."""
    places, size = _geometry(node, x.shape[2:], w.shape[2:])
    batch, group, axes = len(x), node.attr("group", 1), x.ndim - 2
    outputs, each = w.shape[1], w[0].size
    full = (batch, group * outputs, *(n + a + z for n, a, z in zip(size, places.before, places.after, strict=True)))
    rows = x.reshape(batch, group, -1, *x.shape[2:]).transpose(1, 0, *range(3, 3 + axes), 2)
    rows = rows.reshape(group, -1, x.shape[1] // group)
    weights = w.reshape(group, -1, each)
    taps = (rows @ weights).reshape(group, batch, *x.shape[2:], outputs, *places.kernel)
    forth = (1, 0, 2 + axes, *range(2, 2 + axes), *range(3 + axes, 3 + 2 * axes))
    taps = taps.transpose(forth)  # (batch, group, outputs, *spatial, *kernel)
    y = np.zeros(full, x.dtype)
    onto = y.reshape(batch, group, outputs, *full[2:])
    for index, meets in places.taps():
        onto[meets] += taps[index]
    y = y[places.inside(size)]
    if b is not None:
        y = y + b.reshape(-1, *(1,) * axes)

    def backprop(dy: Array) -> Grads:
        padded = np.zeros(full, dy.dtype)
        padded[places.inside(size)] = dy
        view = places.windows(padded).reshape(batch, group, outputs, *places.out, *places.kernel)
        order = (1, 0, *range(3, 3 + axes), 2, *range(3 + axes, 3 + 2 * axes))
        columns = view.transpose(order).reshape(group, -1, each)
        dx = dw = db = None
        if node.needs(0):
            back = (columns @ weights.transpose(0, 2, 1)).reshape(group, batch, *places.out, -1)
            dx = back.transpose(1, 0, 2 + axes, *range(2, 2 + axes)).reshape(x.shape)
        if node.needs(1):
            dw = (rows.transpose(0, 2, 1) @ columns).reshape(w.shape)
        if b is not None and node.needs(2):
            db = dy.sum(axis=(0, *range(2, x.ndim)))
        return (dx, dw, db)

    return y, backprop


def _geometry(node: Node, spatial: tuple[int, ...], kernel: tuple[int, ...]) -> tuple[Geometry, tuple[int, ...]]:
    """Return the geometry of the convolution from the output to the input, and the output's size."""
    axes = len(spatial)
    strides, dilations = node.attr("strides", [1] * axes), node.attr("dilations", [1] * axes)
    extra, wished = node.attr("output_padding", [0] * axes), node.attr("output_shape", None)
    mode, pads = node.attr("auto_pad", b"NOTSET").decode(), node.attr("pads", [0] * 2 * axes)
    before, after, sizes = [], [], []
    for i, (n, k, stride, dilation) in enumerate(zip(spatial, kernel, strides, dilations, strict=True)):
        whole = stride * (n - 1) + extra[i] + (k - 1) * dilation + 1
        first, last = (0, 0) if mode == "VALID" else (pads[i], pads[i + axes])
        if wished is not None or mode.startswith("SAME"):
            total = whole - (wished[-axes:][i] if wished is not None else n * stride)
            whole += max(0, -total)  # values at the end that no tap reaches, as with output_padding
            small, large = max(0, total) // 2, max(0, total) - max(0, total) // 2
            first, last = (small, large) if mode == "SAME_UPPER" else (large, small)
        before.append(first)
        after.append(last)
        sizes.append(whole - first - last)
    ends = (tuple(before), tuple(after), tuple(after))
    return Geometry(tuple(kernel), tuple(strides), tuple(dilations), *ends, tuple(spatial)), tuple(sizes)
