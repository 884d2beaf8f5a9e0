# SPDX-License-Identifier: Apache-2.0
"""Flat rows for a convolution: channels-last values with zeros between lines and samples, whose windows are views.

A row is one position: (rows, channels). A window along the last axis is then one run of memory, and windows `kernel`
rows apart do not overlap: they are the rows of a matrix that BLAS can read in place. So all windows form `kernel` such
matrices, the phases, each starting one row later. For the axes before the last, the taps are first copied side by side
(a partial im2col: Chellapilla et al. 2006). Windows that reach from one line or sample into the next are computed, and
ignored.

BLAS is slow at narrow results. Then `together` neighbouring windows are read as one, longer by one row for each, with
weights that are 0 where a window does not reach: more arithmetic in less time.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from math import prod
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import as_strided
from numpy.typing import DTypeLike

from ..layout import items
from ..operator import Array

NARROW = 8  # outputs up to which two windows at a time are faster (measured with OpenBLAS on AVX-512)


class FlatRows:
    """A buffer for values (batch, *spatial, channels), `pitch` rows from line to line, and their windows.

    The first window starts `before` positions before the first value, along each axis. `flat`: the values' rows, at
    least `room` of them; `inside`: the same as (batch, *spatial, channels), to be written. All other rows stay 0.
    """

    def __init__(
        self,
        batch: int,
        channels: int,
        spatial: Sequence[int],
        pitch: Sequence[int],
        kernel: Sequence[int],
        before: Sequence[int],
        dtype: DTypeLike,
        together: int = 1,
        room: int = 0,
    ) -> None:
        steps = [prod(pitch[i + 1 :]) for i in range(len(pitch))]  # rows between neighbours
        starts = [range(0, k * step, step) for k, step in zip(kernel[:-1], steps, strict=False)]
        offsets = [sum(tap) for tap in product(*starts)]
        self._shape, self._together, self._length = (batch, *pitch), together, together + kernel[-1] - 1
        self._phases = -(-self._length // together)
        self._per_phase = -(-prod(self._shape) // (self._phases * together))
        self.count = self._per_phase * self._phases * together
        lead = sum(b * step for b, step in zip(before, steps, strict=True))
        flat, reach = max(self.count, room), self.count + kernel[-1] - 1
        everything = np.zeros((max(lead + flat, reach + offsets[-1]), channels), dtype)
        self.flat: Array = everything[lead : lead + flat]
        self.inside: Array = self.samples(self.flat, spatial)
        self._taps = [everything[o : o + reach] for o in offsets]
        self._side_by_side = np.empty((reach, len(offsets), channels), dtype) if len(offsets) > 1 else everything
        self._run = len(offsets) * channels

    def windows(self) -> Array:
        """View all windows of the values inside as (phases, windows per phase, length)."""
        if len(self._taps) > 1:
            for i, tap in enumerate(self._taps):
                np.copyto(items(self._side_by_side[:, i]), items(tap))
        return self.last_windows()

    def last_windows(self) -> Array:
        """Return what `windows` returned last."""
        size, row = self._side_by_side.itemsize, self._run * self._side_by_side.itemsize
        shape = (self._phases, self._per_phase, self._length * self._run)
        return as_strided(self._side_by_side, shape, (self._together * row, self._phases * self._together * row, size))

    def results(self, channels: int) -> Array:
        """Allocate one result for each window, flat: (windows, channels)."""
        return np.zeros((self.count, channels), self.flat.dtype)

    def phases(self, flat: Array) -> Array:
        """View flat rows (rows, channels) in the order of windows: (phases, windows per phase, together * channels)."""
        return flat[: self.count].reshape(self._per_phase, self._phases, -1).transpose(1, 0, 2)

    def samples(self, flat: Any, spatial: Sequence[int]) -> Any:
        """View flat rows as (batch, *spatial, channels)."""
        whole = flat[: prod(self._shape)].reshape(*self._shape, -1)
        return whole[tuple(slice(n) for n in (None, *spatial))]


class Banded:
    """Weights as a matrix for windows of `FlatRows` (length, together * outputs), and their gradient."""

    def __init__(self, kernel: Sequence[int], channels: int, outputs: int, dtype: DTypeLike) -> None:
        self.together = 2 if outputs <= NARROW and kernel[-1] > 1 else 1
        self._kernel, self._outputs = kernel[-1], outputs
        length = self.together + kernel[-1] - 1
        self._band = np.zeros((length, *kernel[:-1], channels, self.together, outputs), dtype)
        self._matrix = self._band.reshape(-1, self.together * outputs)
        phases = -(-length // self.together)
        self._products = np.empty((phases, *self._matrix.shape), dtype)
        self._sum = np.empty_like(self._band)

    def fill(self, weights: Array) -> Array:
        """Fill the matrix from weights (last axis of the kernel, other axes, channels, outputs), and return it."""
        for i in range(self.together):
            self._band[i : i + self._kernel, ..., i, :] = weights
        return self._matrix

    def gradient(self, windows: Array, slopes: Array, out: Array) -> None:
        """Write the gradient by the weights into `out`, from windows and the results' gradients in the same phases."""
        np.matmul(windows.transpose(0, 2, 1), slopes, out=self._products)
        np.add.reduce(self._products, axis=0, out=self._sum.reshape(self._matrix.shape))
        out[...] = self._sum[: self._kernel, ..., 0, :]
        for i in range(1, self.together):
            out += self._sum[i : i + self._kernel, ..., i, :]


def kernel_first(w: Array) -> Array:
    """View weights (outputs, channels, *kernel) as (last axis of the kernel, other axes, channels, outputs)."""
    last = w.ndim - 1
    return w.transpose(last, *range(2, last), 1, 0)
