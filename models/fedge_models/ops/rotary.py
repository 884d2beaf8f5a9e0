# SPDX-License-Identifier: Apache-2.0
"""Rotary position embedding: pairs of values are turned by an angle that grows with their place (Su et al. 2021)."""

from __future__ import annotations

from typing import Any

import numpy as np

from .operator import Array, Backprop, Grads, Node


def rotary_embedding(node: Node, x: Array, cos: Array, sin: Array, places: Any = None) -> tuple[Array, Backprop]:
    """ONNX RotaryEmbedding of x (batch, heads, time, size) or (batch, time, heads * size).

    cos, sin: (batch, time, size / 2), or with `places` (batch, time) the rows of a table (place, size / 2).
    """
    flat, heads = x.ndim == 3, node.attr("num_heads", 0)
    whole = x.reshape(*x.shape[:2], heads, -1) if flat else x.swapaxes(1, 2)  # (batch, time, heads, size)
    turned = node.attr("rotary_embedding_dim", 0) or whole.shape[3]
    apart = bool(node.attr("interleaved", 0))
    first = slice(0, turned, 2) if apart else slice(0, turned // 2)
    second = slice(1, turned, 2) if apart else slice(turned // 2, turned)
    c, s = (table[:, :, None] if places is None else table[places][:, :, None] for table in (cos, sin))
    a, b = whole[..., first], whole[..., second]

    def around(by: Array, a: Array, b: Array, rest: Array) -> Array:
        y = rest.copy()
        y[..., first], y[..., second] = c * a - by * b, by * a + c * b
        return y.reshape(x.shape) if flat else y.swapaxes(1, 2)

    def backprop(dy: Array) -> Grads:
        slope = dy.reshape(whole.shape) if flat else dy.swapaxes(1, 2)
        da, db = slope[..., first], slope[..., second]
        dx = around(-s, da, db, slope) if node.needs(0) else None
        if not any(node.wanted[1:]):  # the tables are constants
            return (dx, None, None, None)
        dc, ds = (da * a + db * b).sum(axis=2), (db * a - da * b).sum(axis=2)
        return (dx, _by_place(dc, cos.shape, places), _by_place(ds, sin.shape, places), None)

    return around(s, a, b, whole), backprop


def _by_place(d: Array, shape: tuple[int, ...], places: Any) -> Array:
    """The gradient by a table: rows that were read at several places get the sum."""
    if places is None:
        return d.reshape(shape)
    table = np.zeros(shape, d.dtype)
    np.add.at(table, places, d)
    return table
