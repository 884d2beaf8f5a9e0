"""Largest values of windows that lie side by side: one axis after the other, as maxima of strided slices.

Comparisons are remembered in place of positions: no arg-maximum, no gather, no scatter. Of equals the first along each
axis gets the gradient. The last axis comes last: its slices are the shortest runs of memory, and then fewest.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .operator import Array, Node


def are_tiles(node: Node) -> bool:
    """Whether a pooling's windows neither overlap nor leave the input."""
    kernel = list(node.attr("kernel_shape", None))
    plain = node.attr("auto_pad", b"NOTSET") in (b"NOTSET", b"VALID") and not node.attr("ceil_mode", 0)
    spread = [*node.attr("dilations", [1]), *(p + 1 for p in node.attr("pads", [0]))]
    return plain and list(node.attr("strides", [1] * len(kernel))) == kernel and set(spread) == {1}


class Tiles:
    """For values of one shape (batch, *spatial, channels), pooled to (batch, *tiles, channels)."""

    def __init__(self, values: Array, kernel: Sequence[int]) -> None:
        self._stages = []
        for axis, size in [(i + 1, k) for i, k in enumerate(kernel) if k > 1]:
            part = _parts(values, axis, size)[0]
            won = [np.empty_like(part, np.bool_) for _ in range(size - 1)]
            self._stages.append((axis, size, np.empty_like(part), won, np.zeros_like(values)))
            values = self._stages[-1][2]
        self.y = values

    def forward(self, values: Array) -> Array:
        """The largest of each tile."""
        for axis, size, y, won, _ in self._stages:
            first, second, *others = _parts(values, axis, size)
            np.greater(second, first, out=won[0])
            np.maximum(first, second, out=y)
            for part, beats in zip(others, won[1:], strict=True):
                np.greater(part, y, out=beats)
                np.maximum(y, part, out=y)
            values = y
        return values

    def backprop(self, dy: Array, out: Array) -> None:
        """Write the gradient into `out`, shaped as the values; what no tile covers is left as it is."""
        for i in reversed(range(len(self._stages))):
            axis, size, _, won, kept = self._stages[i]
            into = out if i == 0 else kept
            first, *others = _parts(into, axis, size)
            for part, beats in zip(reversed(others), reversed(won), strict=True):
                np.multiply(dy, beats, out=part)
                dy = np.subtract(dy, part, out=first)
            dy = into


def _parts(values: Array, axis: int, size: int) -> list[Array]:
    """The first, second ... of each tile along an axis: views."""
    stop = values.shape[axis] // size * size
    return [values[(slice(None),) * axis + (slice(i, stop, size),)] for i in range(size)]
