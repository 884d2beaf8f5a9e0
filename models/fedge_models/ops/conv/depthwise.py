# SPDX-License-Identifier: Apache-2.0
"""Depthwise convolution: each channel has its own kernel, so there is no product of matrices.

It is a sum over the kernel's positions of shifted values times one weight per channel. Weights are repeated along the
last axis, so that whole lines are one run of memory.
"""

from __future__ import annotations

from math import prod

import numpy as np

from ..geometry import Geometry
from ..layout import channels_first, channels_last
from ..operator import Array, Grads, Node
from .padded import Padded


def is_depthwise(node: Node, x: Array, w: Array) -> bool:
    """Whether a Conv has as many groups as channels, and as many outputs."""
    return bool(node.attr("group", 1) == x.shape[1] == len(w))


class DepthwiseConv:
    """A depthwise convolution for one shape of input."""

    def __init__(self, node: Node, x: Array, w: Array, b: Array | None, places: Geometry) -> None:
        self.w, self.b, self._node = w, b, node
        batch, channels, taps = len(x), len(w), prod(places.kernel)
        self._values = Padded(batch, channels, x.shape[2:], places, node.dtype)
        self._lines = np.empty((taps, places.out[-1], channels), node.dtype)
        self._y = np.empty((batch, *places.out, channels), node.dtype)
        self._scratch = np.empty_like(self._y)
        if any(node.wanted):
            self._dy = np.empty_like(self._y)
            self._slopes = Padded(batch, channels, x.shape[2:], places, node.dtype) if node.needs(0) else None
            self._ones = np.ones(self._y.size // channels, node.dtype)
            self._dw = node.gradient(1, w.shape) if node.needs(1) else None
            self._dtaps = np.empty((taps, channels), node.dtype)
            self._db = node.gradient(2, b.shape) if b is not None and node.needs(2) else None

    def forward(self, x: Array) -> Array:
        """x (batch, channels, *spatial) to (batch, channels, *out), a view of channels-last memory."""
        y, scratch = self._y, self._scratch
        np.copyto(self._values.inside, channels_last(x))
        np.copyto(self._lines, self.w.reshape(len(self.w), -1).T[:, None])
        np.copyto(y, 0 if self.b is None else self.b)
        for tap, line in zip(self._values.taps, self._lines, strict=True):
            np.multiply(tap, line, out=scratch)
            np.add(y, scratch, out=y)
        return channels_first(y)

    def backprop(self, dy: Array) -> Grads:
        """dy (batch, channels, *out) to the gradients by input, weights and bias."""
        slope, scratch = self._dy, self._scratch
        np.copyto(slope, channels_last(dy))
        if self._dw is not None:
            for tap, total in zip(self._values.taps, self._dtaps, strict=True):
                np.multiply(tap, slope, out=scratch)
                self._ones.dot(scratch.reshape(-1, len(self.w)), total)
            np.copyto(self._dw.reshape(len(self.w), -1), self._dtaps.T)
        if self._db is not None:
            self._ones.dot(slope.reshape(-1, len(self.w)), self._db)
        if self._slopes is None:
            return (None, self._dw, self._db)
        self._slopes.everything.fill(0)
        for tap, line in zip(self._slopes.taps, self._lines, strict=True):
            np.multiply(slope, line, out=scratch)
            np.add(tap, scratch, out=tap)
        return (channels_first(self._slopes.inside), self._dw, self._db)
