# SPDX-License-Identifier: Apache-2.0
"""Whether float32 is fine enough for values that are not standardised yet. Pure.

A graph gets float32 of what is standardised, mean 0 and scale 1. Before that a value may be large and its changes small
(a counter, an energy meter, a time): there float32 has steps that hide them.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..system.floats import is_exact, rounded

FINEST = 1e-14  # of a scale, relative to the mean: what varies by less in float64 does not vary
BLUR = 1e-3  # share of a scale that a step of float32 may be
LARGEST = float(np.finfo(np.float32).max)
SHOWN = 1 << 13  # rows that show the scale of a column
WITHOUT_SCALER = (  # of large values with small changes that a file scales itself, in float32
    "export the network without its scaler, and give centre and scale of the channel on the card, which are float64"
)
MIDDLE = (5.0, 95.0)  # percentiles; one wild value is no scale


def is_blurred(level: NDArray[Any], scale: NDArray[Any]) -> NDArray[np.bool_]:
    """Where values about `level` that change by `scale` are rounded noticeably in float32; scale 0: they do not."""
    steps = np.spacing(np.minimum(np.abs(level), LARGEST).astype(np.float32)).astype(np.float64)
    blurred: NDArray[np.bool_] = (steps > BLUR * np.asarray(scale)) & (np.asarray(scale) > 0)
    return blurred


def narrowed(x: NDArray[Any]) -> NDArray[Any]:
    """Rows x (n, columns, ...) in float32, unless that hides how a column changes: then they are float64."""
    return x if blurred_columns(x) else rounded(x)


def blurred_columns(x: NDArray[Any]) -> list[int]:
    """Which columns of rows x (n, columns, ...) change by less than float32 can tell."""
    if x.dtype != np.float64:
        return []
    return [i for i in range(x.shape[1]) if _needs_more(x[:: max(1, len(x) // SHOWN), i])]


def _needs_more(column: NDArray[np.float64]) -> bool:
    values = column[np.isfinite(column)]
    if not len(values):
        return False
    spread = values.std()
    if is_exact(values) or spread <= FINEST * np.abs(values).max():
        return False
    low, high = np.percentile(values, MIDDLE)
    usual = np.clip(values, low, high).std() or spread
    return bool(is_blurred(np.median(np.abs(values)), usual))
