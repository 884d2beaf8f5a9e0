# SPDX-License-Identifier: Apache-2.0
"""The memory of a graph's activations and gradients: blocks that are lent, and reused once nobody refers to them.

An array is free when no value, gradient or closure holds it any more, which CPython knows at once from its reference
count. So what two nodes need at different times lies in the same block, without a plan of lifetimes. Fresh memory from
the kernel costs as much as the arithmetic on it: blocks are kept until `release`.
"""

from __future__ import annotations

import sys
from math import prod
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

SMALL = 1 << 14  # bytes, below which the C library is quicker
WASTE = 2  # a block is lent for no less than this part of it


class Workspace:
    """Blocks of memory for one graph. Not thread-safe."""

    def __init__(self) -> None:
        self._blocks: list[Any] = []  # by size
        self._scratch: dict[str, Any] = {}

    def array(self, shape: tuple[int, ...], dtype: DTypeLike) -> Any:
        """Lend a contiguous array with undefined contents, for as long as anybody refers to it or to a view of it."""
        kind = np.dtype(dtype)
        size = prod(shape) * kind.itemsize
        if size < SMALL:
            return np.empty(shape, kind)
        return self._block(size)[:size].view(kind).reshape(shape)

    def like(self, x: Any, dtype: DTypeLike | None = None) -> Any:
        """Lend an array of the shape and, where x is dense, the memory layout of x."""
        order = sorted(range(x.ndim), key=lambda axis: -x.strides[axis])
        dense = self.array(tuple(x.shape[axis] for axis in order), x.dtype if dtype is None else dtype)
        back = [0] * x.ndim
        for place, axis in enumerate(order):
            back[axis] = place
        return dense.transpose(back)

    def scratch(self, key: str, count: int, dtype: DTypeLike) -> Any:
        """Return room for `count` values that all nodes share: it is undefined after the call that wrote it."""
        kind = np.dtype(dtype)
        size = count * kind.itemsize
        found = self._scratch.get(key)
        if found is None or len(found) < size:
            found = self._scratch[key] = np.empty(size, np.uint8)
        return found[:size].view(kind)

    def zeros(self, count: int, dtype: DTypeLike) -> Any:
        """Return `count` zeros, not to be written, for Relu.

        NumPy 2.4 takes the maximum with an array in a quarter of the time that it takes with one number.
        """
        key = f"zeros {np.dtype(dtype)}"
        found = self._scratch.get(key)
        if found is None or len(found) < count:
            found = self._scratch[key] = np.zeros(count, dtype)
        return found[:count]

    def release(self) -> None:
        """Give all blocks back that are not lent."""
        self._blocks.clear()
        self._scratch.clear()

    def _block(self, size: int) -> Any:
        """Return the smallest free block that fits, or a new one."""
        for block in self._blocks:
            if len(block) > size * WASTE:
                break
            if len(block) >= size and sys.getrefcount(block) == FREE:
                return block
        made = np.empty(size, np.uint8)
        self._blocks.append(made)
        self._blocks.sort(key=len)
        return made


def _references() -> int:
    """Return what `getrefcount` says of an object that only a list and a loop over it refer to."""
    for block in [np.empty(1, np.uint8)]:
        return sys.getrefcount(block)
    return 0


FREE = _references()
