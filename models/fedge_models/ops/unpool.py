# SPDX-License-Identifier: Apache-2.0
"""Write values to where they came from: MaxUnpool by the positions of MaxPool, Col2Im by windows (torch's Fold)."""

from __future__ import annotations

from typing import Any

import numpy as np

from .geometry import geometry
from .operator import Array, Backprop, Grads, Node
from .pool import scatter
from .shape import Ints


def max_unpool(node: Node, x: Array, at: Ints, shape: Any = None) -> tuple[Array, Backprop]:
    """Zeros of the size before a MaxPool, with its values at the positions that it gave (Zeiler & Fergus 2014)."""
    axes = x.ndim - 2
    kernel, pads = node.attr("kernel_shape", None), node.attr("pads", [0] * 2 * axes)
    strides = node.attr("strides", [1] * axes)
    before = [
        (n - 1) * s + k - pads[i] - pads[i + axes]
        for i, (n, s, k) in enumerate(zip(x.shape[2:], strides, kernel, strict=True))
    ]
    whole = (*x.shape[:2], *before)
    out = whole if shape is None else tuple(int(n) for n in shape)
    node.bound(int(np.prod(out, dtype=np.float64)))
    places = np.unravel_index(at, whole)  # positions count in the size without output_shape
    y = np.zeros(out, x.dtype)
    y[places] = x
    return y, lambda dy: (dy[places], None, None)


def col2im(node: Node, x: Array, image: Ints, block: Ints) -> tuple[Array, Backprop]:
    """Add the windows x (batch, channels * block, windows) up to pictures (batch, channels, *image)."""
    spatial, kernel = tuple(int(n) for n in image), tuple(int(n) for n in block)
    places = geometry(node, spatial, kernel)
    batch, channels = len(x), x.shape[1] // int(np.prod(kernel))
    shape = (batch, channels, *spatial)
    padded = tuple(n + b + a for n, b, a in zip(spatial, places.before, places.after, strict=True))
    node.bound(batch * channels * int(np.prod(padded, dtype=np.float64)))
    apart = x.reshape(batch, channels, *kernel, *places.out)
    axes = len(spatial)
    order = (0, 1, *range(2 + axes, 2 + 2 * axes), *range(2, 2 + axes))  # to (batch, channels, *out, *kernel)

    def backprop(dy: Array) -> Grads:
        parts = places.windows(places.pad(dy, 0)).transpose(np.argsort(order))
        return (parts.reshape(x.shape), None, None)

    return scatter(apart.transpose(order), places, (batch, channels, *padded), shape), backprop
