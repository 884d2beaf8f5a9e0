# SPDX-License-Identifier: Apache-2.0
"""Any convolution (strided, dilated, in groups) as products over gathered windows: one forward, one for each gradient.

Windows are copied channels-last, in runs, into a reused buffer (im2col: Chellapilla et al. 2006). The backward pass
adds one slice for each position of the kernel (col2im), which is contiguous work instead of a scatter.
"""

from __future__ import annotations

from math import prod

import numpy as np

from ..geometry import Geometry
from ..layout import channels_first, channels_last
from ..operator import Array, Grads, Node
from .padded import Padded


class GatheredConv:
    """A convolution over gathered windows for one shape of input."""

    def __init__(self, node: Node, x: Array, w: Array, b: Array | None, places: Geometry) -> None:
        self.w, self.b, self._node = w, b, node
        batch, channels, group, taps = len(x), x.shape[1], node.attr("group", 1), prod(places.kernel)
        rows, each, outputs = batch * prod(places.out), channels // group, len(w) // group
        self._values = Padded(batch, channels, x.shape[2:], places, node.dtype)
        self._columns = np.empty((group, rows, taps * each), node.dtype)
        # (batch, *out, *kernel, channels) by group
        windows = self._values.windows(places)
        windows = windows.reshape(*windows.shape[:-1], group, each) if group > 1 else windows[..., None, :]
        self._windows = np.moveaxis(windows, -2, 0)
        self._gathered = self._columns.reshape(self._windows.shape)
        self._order = (group, outputs, each, taps)
        self._weights = np.empty((group, taps * each, outputs), node.dtype)
        self._y = np.empty((batch, *places.out, len(w)), node.dtype)
        self._h = self._y.reshape(rows, group, outputs).transpose(1, 0, 2)
        if any(node.wanted):
            self._room(x, places)

    def _room(self, x: Array, places: Geometry) -> None:
        """Allocate the buffers of `backprop`."""
        node, group, outputs = self._node, *self._order[:2]
        self._dy = np.empty_like(self._y)
        self._dh = self._dy.reshape(-1, group, outputs).transpose(1, 0, 2)
        self._ones = np.ones(self._h.shape[1], node.dtype)
        self._dw = node.gradient(1, self.w.shape) if node.needs(1) else None
        self._dweights = np.empty_like(self._weights)
        self._db = node.gradient(2, self.b.shape) if self.b is not None and node.needs(2) else None
        if node.needs(0):
            self._slopes = Padded(len(x), x.shape[1], x.shape[2:], places, node.dtype)
            taps = self._columns.reshape(group, len(x), *places.out, -1, self._order[2])  # free by then
            self._grads = np.moveaxis(taps, (-2, 0), (0, -2))  # (taps, batch, *out, group, channels / group)
            self._onto = [tap.reshape(grad.shape) for tap, grad in zip(self._slopes.taps, self._grads, strict=True)]

    def forward(self, x: Array) -> Array:
        """x (batch, channels, *spatial) to (batch, outputs, *out), a view of channels-last memory."""
        np.copyto(self._values.inside, channels_last(x))
        np.copyto(self._gathered, self._windows)
        np.copyto(self._kernel_first(self._weights), self.w.reshape(self._order))
        np.matmul(self._columns, self._weights, out=self._h)
        if self.b is not None:
            np.add(self._y, self.b, out=self._y)
        return channels_first(self._y)

    def backprop(self, dy: Array) -> Grads:
        """dy (batch, outputs, *out) to the gradients by input, weights and bias."""
        np.copyto(self._dy, channels_last(dy))
        if self._dw is not None:
            np.matmul(self._columns.transpose(0, 2, 1), self._dh, out=self._dweights)
            np.copyto(self._dw.reshape(self._order), self._kernel_first(self._dweights))
        if self._db is not None:
            self._ones.dot(self._dy.reshape(-1, len(self.w)), self._db)
        if not self._node.needs(0):
            return (None, self._dw, self._db)
        np.matmul(self._dh, self._weights.transpose(0, 2, 1), out=self._columns)
        self._slopes.everything.fill(0)
        for onto, grad in zip(self._onto, self._grads, strict=True):
            np.add(onto, grad, out=onto)
        return (channels_first(self._slopes.inside), self._dw, self._db)

    def _kernel_first(self, weights: Array) -> Array:
        """View weights (group, taps * channels, outputs) as (group, outputs, channels, taps)."""
        group, outputs, each, taps = self._order
        return weights.reshape(group, taps, each, outputs).transpose(0, 3, 2, 1)
