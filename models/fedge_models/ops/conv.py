"""Convolution over one or more axes as matrix products: one forward, and one for each gradient.

Columns are gathered channels-last by a strided view copied into a kept buffer (im2col: Chellapilla et al. 2006); the
way back adds one slice per kernel tap (col2im), which is contiguous work instead of a scatter.
"""

from __future__ import annotations

import numpy as np

from .flat_conv import FlatConv, is_flat
from .geometry import geometry
from .operator import Array, Backprop, Grads, Node


def conv(node: Node, x: Array, w: Array, b: Array | None = None) -> tuple[Array, Backprop]:
    """ONNX Conv for x (batch, in, *spatial), w (out, in / group, *kernel), b (out,)."""
    plan = node.plan(x.shape)
    if plan is None or plan.w is not w or plan.b is not b:
        if not is_flat(node, w.shape[2:]):
            return _conv(node, x, w, b)
        plan = node.keep(x.shape, FlatConv(node, x, w, b, geometry(node, x.shape[2:], w.shape[2:])))
    return plan.forward(x), plan.backprop


def _conv(node: Node, x: Array, w: Array, b: Array | None) -> tuple[Array, Backprop]:
    """Any Conv: strided, dilated, in groups."""
    places = geometry(node, x.shape[2:], w.shape[2:])
    batch, group, axes = len(x), node.attr("group", 1), x.ndim - 2
    padded = places.pad(x, 0)
    rows, each = batch * int(np.prod(places.out)), w[0].size
    columns = node.buffer("columns", (group, rows, each))
    # (batch, group, channels, *out, *kernel) to (group, batch, *out, channels, *kernel)
    view = places.windows(padded)
    view = view.reshape(batch, group, -1, *view.shape[2:]) if group > 1 else view[:, None]
    order = (1, 0, *range(3, 3 + axes), 2, *range(3 + axes, 3 + 2 * axes))
    np.copyto(columns.reshape(group, batch, *places.out, -1, *places.kernel), view.transpose(order))
    weights = w.reshape(group, -1, each)
    y = np.matmul(columns, weights.transpose(0, 2, 1), out=node.buffer("y", (group, rows, weights.shape[1])))
    if b is not None:
        y += b.reshape(group, 1, -1)

    def backprop(dy: Array) -> Grads:
        last = node.buffer("rows", (group, batch, *places.out, weights.shape[1]))
        parts = dy.reshape(batch, group, -1, *places.out) if group > 1 else dy[:, None]
        np.copyto(last, parts.transpose(1, 0, *range(3, 3 + axes), 2))
        flat = last.reshape(group, rows, -1)
        grads: list[Array | None] = [None, None, None]
        if node.needs(1):
            dw = node.gradient(1, w.shape)
            np.matmul(flat.transpose(0, 2, 1), columns, out=dw.reshape(weights.shape))
            grads[1] = dw
        if b is not None and node.needs(2):
            db = node.gradient(2, b.shape)
            np.add.reduce(flat, axis=1, out=db.reshape(group, -1))
            grads[2] = db
        if node.needs(0):
            taps = np.matmul(flat, weights, out=node.buffer("taps", columns.shape))
            dx = node.buffer("dx", padded.shape)
            dx.fill(0)
            onto = dx.reshape(batch, group, -1, *padded.shape[2:])
            back = (1, 0, 2 + axes, *range(2, 2 + axes), *range(3 + axes, 3 + 2 * axes))
            taps = taps.reshape(group, batch, *places.out, -1, *places.kernel).transpose(back)
            for index, meets in places.taps():
                onto[meets] += taps[index]
            grads[0] = dx[places.inside(x.shape[2:])]
        return grads

    y = y.reshape(group, batch, *places.out, -1).transpose(1, 0, 2 + axes, *range(2, 2 + axes))
    return y.reshape(batch, len(w), *places.out), backprop
