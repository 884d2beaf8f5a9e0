"""Values channels-last and flat, with zeros between lines and samples: convolution windows are read where they lie.

A row is one position: (rows, channels). A window along the last axis is then one run of memory, and windows `kernel`
rows apart do not overlap: they are the rows of a matrix that BLAS can read in place. So all windows are `kernel` such
matrices, its phases, each one row further on. Of the axes before the last, taps are copied side by side first (a
partial im2col: Chellapilla et al. 2006). Windows that reach from one line or sample into the next are nonsense.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from math import prod
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import as_strided
from numpy.typing import DTypeLike

from .operator import Array


class Rows:
    """Room for values (batch, *spatial, channels), `pitch` rows from line to line, and their windows.

    The first window starts `before` positions ahead of the first value, along each axis. `flat`: the values' rows;
    `inside`: the same as (batch, *spatial, channels), to be written; all other rows stay 0.
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
    ) -> None:
        steps = [prod(pitch[i + 1 :]) for i in range(len(pitch))]  # rows between neighbours
        starts = [range(0, k * step, step) for k, step in zip(kernel[:-1], steps, strict=False)]
        offsets = [sum(tap) for tap in product(*starts)]
        self._shape, self._kernel = (batch, *pitch), kernel[-1]
        self._each = -(-prod(self._shape) // self._kernel)
        count, lead = self._each * self._kernel, sum(b * step for b, step in zip(before, steps, strict=True))
        reach = count + self._kernel - 1
        everything = np.zeros((max(lead + count, reach + offsets[-1]), channels), dtype)
        self.flat: Array = everything[lead : lead + count]
        self.inside: Array = self.samples(self.flat, spatial)
        self._taps = [everything[o : o + reach] for o in offsets]
        self._beside = np.empty((reach, len(offsets), channels), dtype) if len(offsets) > 1 else everything
        self._run = len(offsets) * channels

    def windows(self) -> Array:
        """All windows of what is inside now, (kernel, rows each, kernel * run): a view, in phases."""
        if len(self._taps) > 1:
            for i, tap in enumerate(self._taps):
                self._beside[:, i] = tap
        return self.last_windows()

    def last_windows(self) -> Array:
        """What `windows` gave last."""
        step = self._run * self._beside.itemsize
        shape = (self._kernel, self._each, self._kernel * self._run)
        return as_strided(self._beside, shape, (step, self._kernel * step, self._beside.itemsize))

    def results(self, channels: int) -> Array:
        """Room for one result for each window, flat."""
        return np.zeros((len(self.flat), channels), self.flat.dtype)

    def phases(self, flat: Array) -> Array:
        """A view of flat rows (rows, channels) in the order of windows: (kernel, rows each, channels)."""
        return flat.reshape(self._each, self._kernel, -1).transpose(1, 0, 2)

    def samples(self, flat: Any, spatial: Sequence[int]) -> Any:
        """A view of flat rows as (batch, *spatial, channels)."""
        whole = flat[: prod(self._shape)].reshape(*self._shape, -1)
        return whole[tuple(slice(n) for n in (None, *spatial))]
