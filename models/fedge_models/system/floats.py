# SPDX-License-Identifier: Apache-2.0
"""float32 where it holds what is given, float64 where it does not. Pure."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def rounded(x: NDArray[Any]) -> NDArray[np.float32]:
    """x in float32; infinite where that holds no such value."""
    with np.errstate(over="ignore"):
        return x.astype(np.float32, copy=False)


def is_exact(x: NDArray[Any]) -> bool:
    """Whether float32 holds every value of x; NaN is held."""
    return bool(np.array_equal(x, rounded(x), equal_nan=True))


def wide(x: NDArray[Any]) -> NDArray[Any]:
    """x as floats that hold what it holds: as it is when it is float32 or float64."""
    if x.dtype in (np.float32, np.float64):
        return x
    return x.astype(np.float32 if np.can_cast(x.dtype, np.float32) else np.float64)


def lean(x: NDArray[np.float64]) -> NDArray[Any]:
    """x in float32 if that holds it exactly, as it does what came in float32; else as it is."""
    return rounded(x) if is_exact(x) else x
