"""Convolution over one axis of time, as one GEMM forward and one for each gradient.

Columns are gathered channels-last by a strided view copied into a kept buffer (im2col); the way back adds one slice per
kernel tap (col2im), which is contiguous work instead of a scatter.
"""

from __future__ import annotations

import numpy as np

from ..errors import ModelError
from .operator import Array, Backprop, Grads, Node


def conv(node: Node, x: Array, w: Array, b: Array | None = None) -> tuple[Array, Backprop]:
    """ONNX Conv for x (batch, in, time), w (out, in, kernel), b (out,); groups = 1."""
    if x.ndim != 3 or node.attr("group", 1) != 1:
        raise ModelError(f"node {node.name!r} (Conv): only 1-D convolution with group 1 can be trained in this version")
    stride, dilation = node.attr("strides", [1])[0], node.attr("dilations", [1])[0]
    out, channels, kernel = w.shape
    before, after = padding(node, x.shape[2], kernel, stride, dilation)
    padded = np.pad(x, ((0, 0), (0, 0), (before, after))) if before or after else x
    batch, _, time = padded.shape
    steps = (time - (kernel - 1) * dilation - 1) // stride + 1
    columns = _columns(node, padded, (batch, steps, channels, kernel), stride, dilation)
    flat_w = w.reshape(out, -1)
    y = np.matmul(columns, flat_w.T, out=node.buffer("y", (batch * steps, out)))
    if b is not None:
        y += b

    def backprop(dy: Array) -> Grads:
        rows = node.buffer("rows", (batch, steps, out))
        np.copyto(rows, dy.transpose(0, 2, 1))
        rows = rows.reshape(-1, out)
        grads: list[Array | None] = [None, None, None]
        if node.needs(1):
            dw = node.gradient(1, w.shape)
            np.matmul(rows.T, columns, out=dw.reshape(out, -1))
            grads[1] = dw
        if b is not None and node.needs(2):
            grads[2] = np.add.reduce(rows, axis=0, out=node.gradient(2, b.shape))
        if node.needs(0):
            taps = np.matmul(rows, flat_w, out=node.buffer("taps", columns.shape))
            dx = node.buffer("dx", padded.shape)
            dx.fill(0)
            taps4 = taps.reshape(batch, steps, channels, kernel).transpose(3, 0, 2, 1)
            for k in range(kernel):
                dx[:, :, k * dilation : k * dilation + (steps - 1) * stride + 1 : stride] += taps4[k]
            grads[0] = dx[:, :, before : time - after]
        return grads

    return y.reshape(batch, steps, out).transpose(0, 2, 1), backprop


def padding(node: Node, size: int, kernel: int, stride: int, dilation: int) -> tuple[int, int]:
    """Samples to add before and after, from `pads` or `auto_pad`."""
    mode = node.attr("auto_pad", b"NOTSET").decode()
    if mode in ("SAME_UPPER", "SAME_LOWER"):
        total = max(0, (-(-size // stride) - 1) * stride + (kernel - 1) * dilation + 1 - size)
        small = total // 2
        return (small, total - small) if mode == "SAME_UPPER" else (total - small, small)
    pads = node.attr("pads", [0, 0])
    return pads[0], pads[1]


def _columns(node: Node, x: Array, shape: tuple[int, int, int, int], stride: int, dilation: int) -> Array:
    batch, steps, channels, kernel = shape
    by_batch, by_channel, by_time = x.strides
    strides = (by_batch, by_time * stride, by_channel, by_time * dilation)
    view = np.lib.stride_tricks.as_strided(x, shape, strides, writeable=False)
    columns: Array = node.buffer("columns", shape)
    np.copyto(columns, view)
    return columns.reshape(batch * steps, channels * kernel)
