# SPDX-License-Identifier: Apache-2.0
"""Pool the maxima of adjoining windows (tiles): one axis after the other, as maxima of strided slices.

Comparisons are stored instead of positions: no arg-maximum, no gather, no scatter. Of equal values the first along each
axis gets the gradient. The last axis is pooled last: its slices are the shortest runs of memory, and by then fewest.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .layout import items
from .operator import Array, Node

SHORT = 16  # channels up to which NumPy's loops over them cost more than their arithmetic


def are_tiles(node: Node) -> bool:
    """Whether a pooling has windows of more than one value that neither overlap nor leave the input."""
    kernel = list(node.attr("kernel_shape", None))
    plain = node.attr("auto_pad", b"NOTSET") in (b"NOTSET", b"VALID") and not node.attr("ceil_mode", 0)
    spread = [*node.attr("dilations", [1]), *(p + 1 for p in node.attr("pads", [0]))]
    plain = plain and len(node.outputs) == 1  # none of positions
    return plain and list(node.attr("strides", [1] * len(kernel))) == kernel != [1] * len(kernel) and set(spread) == {1}


class Tiles:
    """Max pooling of values of one shape (batch, *spatial, channels) to (batch, *tiles, channels)."""

    def __init__(self, values: Array, kernel: Sequence[int]) -> None:
        self._stages = []
        for axis, size in [(i + 1, k) for i, k in enumerate(kernel) if k > 1]:
            self._stages.append(_Stage(values, axis, size))
            values = self._stages[-1].y
        self.y = values

    def forward(self, values: Array) -> Array:
        """Return the largest value of each tile."""
        for stage in self._stages:
            values = stage.forward(values)
        return values

    def backprop(self, dy: Array, out: Array) -> None:
        """Write the gradient into `out`, shaped as the values; positions that no tile covers are not written."""
        for stage in reversed(self._stages[1:]):
            stage.backprop(dy, stage.slopes)
            dy = stage.slopes
        if self._stages:
            self._stages[0].backprop(dy, out)
        else:
            np.copyto(out, dy)


class _Stage:
    """Maxima along one axis. Short runs of memory are first copied apart, into long ones."""

    def __init__(self, values: Array, axis: int, size: int) -> None:
        self._axis, self._size = axis, size
        part = self._parts(values)[0]
        self.y = np.empty_like(part)
        self.slopes = np.zeros_like(values)
        self._larger = [np.empty_like(part, np.bool_) for _ in range(size - 1)]
        short = axis == values.ndim - 2 and values.shape[-1] <= SHORT and values.strides[-1] == values.itemsize
        self._apart = [np.empty_like(part) for _ in range(size)] if short else None

    def forward(self, values: Array) -> Array:
        parts = self._parts(values)
        if self._apart is not None:
            for onto, part in zip(self._apart, parts, strict=True):
                np.copyto(items(onto), items(part))
            parts = self._apart
        first, second, *others = parts
        np.greater(second, first, out=self._larger[0])
        np.maximum(first, second, out=self.y)
        for part, larger in zip(others, self._larger[1:], strict=True):
            np.greater(part, self.y, out=larger)
            np.maximum(self.y, part, out=self.y)
        return self.y

    def backprop(self, dy: Array, out: Array) -> None:
        parts = self._parts(out)
        first, *others = parts if self._apart is None else self._apart
        for part, larger in zip(reversed(others), reversed(self._larger), strict=True):
            np.multiply(dy, larger, out=part)
            dy = np.subtract(dy, part, out=first)
        if self._apart is not None:
            for onto, part in zip(parts, self._apart, strict=True):
                np.copyto(items(onto), items(part))

    def _parts(self, values: Array) -> list[Array]:
        """Views of the first, second, ... value of each tile."""
        stop = values.shape[self._axis] // self._size * self._size
        return [values[(slice(None),) * self._axis + (slice(i, stop, self._size),)] for i in range(self._size)]
