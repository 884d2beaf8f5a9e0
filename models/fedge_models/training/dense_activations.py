# SPDX-License-Identifier: Apache-2.0
"""Activations between dense layers as lists of NumPy calls, bound to their arrays, that allocate nothing.

h: values, changed in place to those behind the activation; d: gradient by those, changed in place to that before it.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from ..ops.operator import Array

Call = Callable[[], Any]
Calls = tuple[list[Call], list[Call]]  # forwards, backwards


def relu(h: Array, d: Array) -> Calls:
    """max(h, 0); d where h > 0.

    Two whole arrays are compared, since NumPy compares with a scalar three times slower. Backwards, the bits of h are
    read as an integer, which is above 0 exactly where h is: min(bits, 1) is the mask. Multiplied by it as an integer, d
    stays or is 0. Multiplying a float by a bool costs three times as much, because it is converted in blocks.
    """
    whole = np.dtype(f"i{h.itemsize}")
    bits, slopes = h.view(whole), d.view(whole)
    ones, mask = np.ones_like(bits), np.empty_like(bits)
    forwards: list[Call] = [partial(np.maximum, h, np.zeros_like(h), out=h)]
    return forwards, [partial(np.minimum, bits, ones, out=mask), partial(np.multiply, slopes, mask, slopes)]


def nothing(h: Array, d: Array) -> Calls:
    """A layer without activation."""
    return [], []


def tanh(h: Array, d: Array) -> Calls:
    """tanh(h); d (1 - h²)."""
    square, one = np.empty_like(h), np.ones((), h.dtype)
    return [partial(np.tanh, h, h)], [
        partial(np.multiply, h, h, square),
        partial(np.subtract, one, square, square),
        partial(np.multiply, d, square, d),
    ]


def sigmoid(h: Array, d: Array) -> Calls:
    """1 / (1 + exp(-h)), through tanh so that nothing overflows; d h (1 - h)."""
    square, half = np.empty_like(h), np.full((), 0.5, h.dtype)
    forwards: list[Call] = [
        partial(np.multiply, h, half, h),
        partial(np.tanh, h, h),
        partial(np.multiply, h, half, h),
        partial(np.add, h, half, h),
    ]
    return forwards, [
        partial(np.multiply, h, h, square),
        partial(np.subtract, h, square, square),
        partial(np.multiply, d, square, d),
    ]


# By operator type; graph/dense_chain.py names the same.
ACTIVATIONS: dict[str, Callable[[Array, Array], Calls]] = {
    "": nothing,
    "Relu": relu,
    "Sigmoid": sigmoid,
    "Tanh": tanh,
}
