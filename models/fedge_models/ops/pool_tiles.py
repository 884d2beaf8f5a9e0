# SPDX-License-Identifier: Apache-2.0
"""Pool the maxima of adjoining windows (tiles): one axis after the other, as maxima of strided slices.

Comparisons are stored instead of positions: no arg-maximum, no gather, no scatter. Of equal values the first along each
axis gets the gradient. The last axis is pooled last: its slices are the shortest runs of memory, and by then fewest.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from .layout import items
from .operator import Array, Node
from .workspace import Workspace

SHORT = 32  # values of a run, up to which NumPy's loops over them cost more than their arithmetic

Back = Callable[[Array, Array], None]


def are_tiles(node: Node) -> bool:
    """Whether a pooling has windows of more than one value that neither overlap nor leave the input."""
    kernel = list(node.attr("kernel_shape", None))
    plain = node.attr("auto_pad", b"NOTSET") in (b"NOTSET", b"VALID") and not node.attr("ceil_mode", 0)
    spread = [*node.attr("dilations", [1]), *(p + 1 for p in node.attr("pads", [0]))]
    plain = plain and len(node.outputs) == 1  # none of positions
    return plain and list(node.attr("strides", [1] * len(kernel))) == kernel != [1] * len(kernel) and set(spread) == {1}


def maxima(values: Array, kernel: Sequence[int], memory: Workspace) -> tuple[Array, Back]:
    """Return the largest value of each tile, for values (channels, *spatial, batch) to (channels, *tiles, batch).

    The function returned with it takes the gradient by the maxima, and writes that by the values; it leaves positions
    alone that no tile covers.
    """
    stages = []
    for axis, size in [(i + 1, k) for i, k in enumerate(kernel) if k > 1]:
        shape = values.shape
        values, back = _along(values, axis, size, memory)
        stages.append((shape, back))

    def backprop(dy: Array, out: Array) -> None:
        for shape, back in reversed(stages[1:]):
            slopes = memory.array(shape, out.dtype)
            if any(n % k for n, k in zip(shape[1:-1], kernel, strict=True)):
                slopes.fill(0)
            back(dy, slopes)
            dy = slopes
        stages[0][1](dy, out)

    return values, backprop


def _along(values: Array, axis: int, size: int, memory: Workspace) -> tuple[Array, Back]:
    """Take the maxima along one axis. Short runs of memory are first copied apart, into long ones."""
    stop = values.shape[axis] // size * size
    index = [(slice(None),) * axis + (slice(i, stop, size),) for i in range(size)]
    parts = [values[i] for i in index]
    short = axis == values.ndim - 2 and values.shape[-1] <= SHORT and values.flags.c_contiguous
    if short:
        parts = [_apart(part, memory) for part in parts]
    y = memory.array(parts[0].shape, values.dtype)
    larger = [memory.array(y.shape, np.bool_) for _ in range(size - 1)]
    best = parts[0]
    for part, mask in zip(parts[1:], larger, strict=True):
        np.greater(part, best, out=mask)
        best = np.maximum(best, part, out=y)

    shape = y.shape

    def backprop(dy: Array, out: Array) -> None:
        onto = [out[i] for i in index]
        apart = [memory.array(shape, out.dtype) for _ in range(size)] if short else onto
        for part, mask in zip(reversed(apart[1:]), reversed(larger), strict=True):
            np.multiply(dy, mask, out=part)
            dy = np.subtract(dy, part, out=apart[0])
        if short:
            for place, part in zip(onto, apart, strict=True):
                np.copyto(items(place), items(part))

    return y, backprop


def _apart(part: Array, memory: Workspace) -> Array:
    copy: Array = memory.array(part.shape, part.dtype)
    np.copyto(items(copy), items(part))
    return copy
