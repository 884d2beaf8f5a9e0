# SPDX-License-Identifier: Apache-2.0
"""Views between ONNX's shapes (batch, channels, *spatial) and memory with the batch last: (channels, *spatial, batch).

Convolutions, poolings and normalisations work with the batch last. One position of one channel is then a run of
memory as long as the batch, whatever the stride; a channel is one run as a whole, and its weight or bias one factor of
it. So NumPy's inner loops are long also where a network has few channels.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from .operator import Array, Node

BLOCK = 1 << 16  # values at a time
SMALL = 1 << 12  # values up to which finding their order costs more than it saves


def batch_last(x: Array) -> Array:
    """View x (batch, channels, *spatial) as (channels, *spatial, batch)."""
    return x.transpose(*range(1, x.ndim), 0)


def batch_first(x: Array) -> Array:
    """View x (channels, *spatial, batch) as (batch, channels, *spatial)."""
    return x.transpose(x.ndim - 1, *range(x.ndim - 1))


def in_batch_last(node: Node, x: Array) -> Array:
    """Return x (batch, channels, *spatial) as contiguous (channels, *spatial, batch): a view, else a copy."""
    values = batch_last(x)
    if values.flags.c_contiguous:
        return values
    copy: Array = node.workspace.array(values.shape, x.dtype)
    np.copyto(copy, values)
    return copy


def pieces(*arrays: Array) -> Iterator[tuple[Array, ...]]:
    """Yield views of arrays of one shape, BLOCK values at a time, so that several passes over them stay in the cache.

    The views are flat, in the order of memory. Arrays that differ in it, or are small, are yielded as they are.
    """
    first = arrays[0]
    if first.size <= SMALL:
        yield arrays
        return
    order = sorted(range(first.ndim), key=lambda axis: -first.strides[axis])
    turned = [array.transpose(order) for array in arrays]
    if not all(array.flags.c_contiguous for array in turned):
        yield arrays
        return
    flat = [array.reshape(-1) for array in turned]
    for start in range(0, first.size, BLOCK):
        yield tuple(array[start : start + BLOCK] for array in flat)


def items(values: Array) -> Any:
    """View values (..., n) so that the last axis is one item.

    Copying short runs this way takes half the time. The last axis must be contiguous in memory.
    """
    return values.view(f"V{values.shape[-1] * values.itemsize}")
