# SPDX-License-Identifier: Apache-2.0
"""Compute where the windows of a convolution or pooling lie, over the axes after batch and channels."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from typing import Any, NamedTuple

import numpy as np

from .operator import Array, Node

Index = tuple[Any, ...]  # an index into an array


class Geometry(NamedTuple):
    """Per axis: kernel, stride, dilation, what is padded before and after, and how many windows there are."""

    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    before: tuple[int, ...]
    after: tuple[int, ...]
    declared: tuple[int, ...]  # the part of `after` that `pads` states; ceil_mode may need more
    out: tuple[int, ...]

    def pad(self, x: Array, fill: float) -> Array:
        """Pad x (batch, channels, *spatial) with `fill`; x itself where there is no padding."""
        if not any(self.before) and not any(self.after):
            return x
        sizes = [n + b + a for n, b, a in zip(x.shape[2:], self.before, self.after, strict=True)]
        padded = np.full((*x.shape[:2], *sizes), fill, x.dtype)
        padded[self.inside(x.shape[2:])] = x
        return padded

    def inside(self, spatial: tuple[int, ...]) -> tuple[slice, ...]:
        """The index of the unpadded values."""
        return (slice(None), slice(None), *(slice(b, b + n) for b, n in zip(self.before, spatial, strict=True)))

    def windows(self, padded: Array) -> Array:
        """View padded values as windows (batch, channels, *out, *kernel)."""
        along = padded.strides[2:]
        steps = tuple(s * n for s, n in zip(along, self.strides, strict=True))
        taps = tuple(s * n for s, n in zip(along, self.dilations, strict=True))
        shape, strides = (*padded.shape[:2], *self.out, *self.kernel), (*padded.strides[:2], *steps, *taps)
        return np.lib.stride_tricks.as_strided(padded, shape, strides, writeable=False)

    def taps(self) -> Iterator[tuple[Index, Index]]:
        """For each position in the kernel, yield its index in the windows and that of the padded values it covers."""
        for index in product(*(range(k) for k in self.kernel)):
            starts = [i * d for i, d in zip(index, self.dilations, strict=True)]
            ends = [a + (n - 1) * s + 1 for a, n, s in zip(starts, self.out, self.strides, strict=True)]
            yield (..., *index), (..., *(slice(*of) for of in zip(starts, ends, self.strides, strict=True)))


def geometry(node: Node, spatial: tuple[int, ...], kernel: tuple[int, ...]) -> Geometry:
    """Return the geometry that the node's attributes give, computed once for each input size."""
    found = node.cached.get(spatial)
    if found is None:
        found = node.cached[spatial] = _geometry(node, spatial, kernel)
    return found


def _geometry(node: Node, spatial: tuple[int, ...], kernel: tuple[int, ...]) -> Geometry:
    axes = len(spatial)
    strides, dilations = node.attr("strides", [1] * axes), node.attr("dilations", [1] * axes)
    mode, pads = node.attr("auto_pad", b"NOTSET").decode(), node.attr("pads", [0] * 2 * axes)
    before, after, extra, out = [], [], [], []
    for i, (size, k, stride, dilation) in enumerate(zip(spatial, kernel, strides, dilations, strict=True)):
        reach = (k - 1) * dilation + 1
        first, last = pads[i], pads[i + axes]
        if mode in ("SAME_UPPER", "SAME_LOWER"):
            total = max(0, (-(-size // stride) - 1) * stride + reach - size)
            first, last = (total // 2, total - total // 2)[:: 1 if mode == "SAME_UPPER" else -1]
        room = size + first + last - reach
        count = room // stride + 1
        if node.attr("ceil_mode", 0) and -(-room // stride) * stride < size + first:
            count = -(-room // stride) + 1  # a window may extend past the end, but must not start in the padding there
        before.append(first)
        extra.append(last)
        after.append(max(last, (count - 1) * stride + reach - size - first))
        out.append(count)
    return Geometry(kernel, tuple(strides), tuple(dilations), tuple(before), tuple(after), tuple(extra), tuple(out))
