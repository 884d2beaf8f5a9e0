# SPDX-License-Identifier: Apache-2.0
"""Which outputs of a convolution or pooling each position of its kernel (tap) reaches, and which inputs it reads there.

Padding is never written anywhere: an output whose tap lies in the padding is left out of that tap's slices.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import NamedTuple

from .geometry import Geometry

Slices = tuple[slice, ...]  # one for the channels, which are all, and one for each axis after them
ALL = slice(None)


class Tap(NamedTuple):
    """One position of the kernel: slices of the outputs (from the first row on) and of the inputs, of equal sizes."""

    number: int
    onto: Slices
    source: Slices


def taps(places: Geometry, spatial: Sequence[int], rows: tuple[int, int] | None = None) -> list[Tap]:
    """Return the taps that read values for these rows of the output, which are all if `rows` is None.

    A row is a position along the first axis. Padding on all sides may leave a tap without any value: it is left out.
    """
    first, end = rows or (0, places.out[0])
    found = []
    for number, index in enumerate(product(*(range(k) for k in places.kernel))):
        onto, source = [], []
        for axis, i in enumerate(index):
            stride, at = places.strides[axis], i * places.dilations[axis] - places.before[axis]
            low, high = (first, end) if axis == 0 else (0, places.out[axis])
            start = max(low, -(at // stride))  # the first output with a value at this tap
            stop = min(high, (spatial[axis] - 1 - at) // stride + 1)
            onto.append(slice(start - low, max(start, stop) - low))
            source.append(slice(start * stride + at, max(start, stop - 1) * stride + at + 1, stride))
        if all(s.stop > s.start for s in onto):
            found.append(Tap(number, (ALL, *onto), (ALL, *source)))
    return found


def gaps(tap: Tap, sizes: Sequence[int]) -> list[Slices]:
    """Return slices that cover the outputs (of these sizes) which the tap does not reach."""
    found = []
    for axis, (reached, size) in enumerate(zip(tap.onto[1:], sizes, strict=True), 1):
        around = [slice(0, reached.start), slice(reached.stop, size)]
        found += [(*tap.onto[:axis], s) for s in around if s.stop > s.start]
    return found
