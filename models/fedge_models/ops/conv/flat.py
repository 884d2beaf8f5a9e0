# SPDX-License-Identifier: Apache-2.0
"""Convolution with stride 1 that gathers no windows: products over `FlatRows`, forwards, by weight and by input.

The gradient by the input is a convolution of the output's gradient with the reversed kernel, so it is one more product
and nothing is scattered. Compared with gathering every window this saves most of the copying: a 1-D CNN trains three
times as fast.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..geometry import Geometry
from ..layout import channels_first, channels_last
from ..operator import Array, Grads, Node
from ..pool_tiles import Tiles
from .flat_rows import Banded, FlatRows, kernel_first


def is_flat(node: Node, kernel: Sequence[int]) -> bool:
    """Whether a Conv is one for `FlatConv`: stride 1, one group, not dilated, padded by less than its kernel."""
    ones = {*node.attr("strides", [1]), *node.attr("dilations", [1]), node.attr("group", 1)} == {1}
    pads = node.attr("pads", [0] * 2 * len(kernel))
    return ones and all(0 <= p < k for p, k in zip(pads, (*kernel, *kernel), strict=True))


class FlatConv:
    """A convolution, with or without Relu and MaxPool over tiles, for one shape of input.

    The maxima are taken first, so that bias and Relu run on a half or a quarter of the values.
    """

    def __init__(self, node: Node, x: Array, w: Array, b: Array | None, places: Geometry) -> None:
        self.w, self.b, self._node, self._places = w, b, node, places
        spatial = x.shape[2:]
        self._pitch = [n + max(ends) for n, *ends in zip(spatial, places.before, places.after, strict=True)]
        self._weights = Banded(places.kernel, x.shape[1], len(w), node.dtype)
        self._values = self._rows(len(x), x.shape[1], spatial, places.before, self._weights.together)
        self._h = self._values.results(len(w))
        self._valid = self._values.samples(self._h, places.out)
        pool, relu = node.follows("MaxPool"), node.follows("Relu")
        self._pool = Tiles(self._valid, pool.attr("kernel_shape", None)) if pool else None
        self._y, width = (self._pool.y, self._pool.y.shape[-2]) if self._pool else (self._h, self._pitch[-1])
        lines = self._y.size // (width * len(w))
        self._lines = self._y.reshape(-1)[: lines * width * len(w)].reshape(lines, -1)
        self._bias = np.empty((width, len(w)), node.dtype)
        self._zero = np.zeros((), node.dtype) if relu else None
        if any(node.wanted):
            self._room(len(x), spatial)

    def _room(self, batch: int, spatial: tuple[int, ...]) -> None:
        """Allocate the buffers of `backprop`."""
        node, places, outputs, channels = self._node, self._places, len(self.w), self.w.shape[1]
        ahead = [k - 1 - n for k, n in zip(places.kernel, places.before, strict=True)]
        self._reversed = Banded(places.kernel, outputs, channels, node.dtype)
        self._slopes = self._rows(batch, outputs, places.out, ahead, self._reversed.together, self._values.count)
        self._ones = np.ones(len(self._slopes.flat), node.dtype)
        self._alive = np.empty(self._y.shape, np.bool_)
        self._alive_valid = self._alive if self._pool else self._values.samples(self._alive, places.out)
        self._dy = np.empty_like(self._y) if self._pool else self._slopes.inside
        self._dw = node.gradient(1, self.w.shape) if node.needs(1) else None
        self._db = node.gradient(2, self.b.shape) if self.b is not None and node.needs(2) else None
        if node.needs(0):
            self._dx_flat = self._slopes.results(channels)
            self._dx = channels_first(self._slopes.samples(self._dx_flat, spatial))

    def _rows(self, batch: int, channels: int, spatial: Sequence[int], before: Sequence[int], *more: int) -> FlatRows:
        return FlatRows(batch, channels, spatial, self._pitch, self._places.kernel, before, self._node.dtype, *more)

    def forward(self, x: Array) -> Array:
        """x (batch, channels, *spatial) to (batch, outputs, *out), a view of channels-last memory."""
        np.copyto(self._values.inside, channels_last(x))
        weights = self._weights.fill(kernel_first(self.w))
        np.matmul(self._values.windows(), weights, out=self._values.phases(self._h))
        if self._pool is not None:
            self._pool.forward(self._valid)
        if self.b is not None:
            np.copyto(self._bias, self.b)
            np.add(self._lines, self._bias.reshape(-1), out=self._lines)
        if self._zero is not None:
            np.maximum(self._y, self._zero, out=self._y)
        return channels_first(self._y if self._pool is not None else self._valid)

    def backprop(self, dy: Array) -> Grads:
        """dy (batch, outputs, *out) to the gradients by input, weights and bias."""
        slopes, values = self._slopes, self._values
        self._through_relu(channels_last(dy))
        if self._pool is not None:
            self._pool.backprop(self._dy, slopes.inside)
        if self._dw is not None:
            self._weights.gradient(values.last_windows(), values.phases(slopes.flat), kernel_first(self._dw))
        if self._db is not None:
            self._ones.dot(slopes.flat, self._db)
        if not self._node.needs(0):
            return (None, self._dw, self._db)
        reverse = (slice(None), slice(None), *(slice(None, None, -1) for _ in self._places.kernel))
        weights = self._reversed.fill(np.swapaxes(kernel_first(self.w[reverse]), -1, -2))
        np.matmul(slopes.windows(), weights, out=slopes.phases(self._dx_flat))
        return (self._dx, self._dw, self._db)

    def _through_relu(self, dy: Array) -> None:
        """Copy dy (batch, *out, outputs) where the output is not 0; the padding between samples stays 0."""
        if self._zero is None:
            np.copyto(self._dy, dy)
        else:
            np.greater(self._y, self._zero, out=self._alive)
            np.multiply(dy, self._alive_valid, out=self._dy)
