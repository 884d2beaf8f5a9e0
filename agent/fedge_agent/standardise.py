"""Site-wise standardisation: every site sees its own data with mean 0 and scale 1, so that one model fits all."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from .types import Array

FLOOR = 1e-6  # of a scale, relative to the magnitude of the mean: a constant feature stays near 0
CLIP = 8.0  # standard deviations: a broken sensor must not drown all others
LOWEST, HIGHEST = np.float32(-CLIP), np.float32(CLIP)


class Scale(NamedTuple):
    """Mean and scale of each feature (features,), or of each channel of a raw window (channels, 1)."""

    mean: Array
    scale: Array

    def __call__(self, x: Array, out: Array | None = None) -> Array:
        """Standardised x (..., features) or (..., channels, length), float32; written into `out` where given."""
        z: Array = np.subtract(x, self.mean, out=out)
        np.divide(z, self.scale, out=z)
        np.maximum(z, LOWEST, out=z)
        np.minimum(z, HIGHEST, out=z)
        return z


def fit(x: Array) -> Scale:
    """From samples (n, features) or raw windows (n, channels, length)."""
    axes = (0,) if x.ndim == 2 else (0, 2)
    mean = x.mean(axis=axes, dtype=np.float64)
    std = x.std(axis=axes, dtype=np.float64)
    scale = np.maximum(std, FLOOR * (1 + np.abs(mean)))
    shape = mean.shape if x.ndim == 2 else (*mean.shape, 1)
    return Scale(mean.astype(np.float32).reshape(shape), scale.astype(np.float32).reshape(shape))
