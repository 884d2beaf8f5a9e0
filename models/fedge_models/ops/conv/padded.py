# SPDX-License-Identifier: Apache-2.0
"""Values channels-last with zeros around them, and views of what each position of a kernel covers."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import DTypeLike

from ..geometry import Geometry
from ..operator import Array


class Padded:
    """A buffer for values (batch, *spatial, channels): `inside` is to be written, the padding around it stays 0.

    `taps`: for each position in the kernel, a view (batch, *out, channels) of the values it covers in each window.
    """

    def __init__(self, batch: int, channels: int, spatial: Sequence[int], places: Geometry, dtype: DTypeLike) -> None:
        sizes = [n + b + a for n, b, a in zip(spatial, places.before, places.after, strict=True)]
        self.everything: Array = np.zeros((batch, *sizes, channels), dtype)
        inner = [slice(None), *(slice(b, b + n) for b, n in zip(places.before, spatial, strict=True))]
        self.inside: Array = self.everything[tuple(inner)]
        met = [(*meets, slice(None)) for _, meets in places.taps()]
        self.taps = [self.everything[index] for index in met]

    def windows(self, places: Geometry) -> Array:
        """View the buffer as windows (batch, *out, *kernel, channels)."""
        along = self.everything.strides[1:-1]
        steps = tuple(s * n for s, n in zip(along, places.strides, strict=True))
        taps = tuple(s * n for s, n in zip(along, places.dilations, strict=True))
        first, last = self.everything.strides[0], self.everything.strides[-1]
        shape = (len(self.everything), *places.out, *places.kernel, self.everything.shape[-1])
        return np.lib.stride_tricks.as_strided(self.everything, shape, (first, *steps, *taps, last), writeable=False)
