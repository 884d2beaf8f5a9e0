# SPDX-License-Identifier: Apache-2.0
"""Say whether two results are the same up to rounding, measured by how far different samples are apart.

The largest value is no measure: a regressor in the units of a plant adds 5000 to all it gives, and a thousandth of that
hides everything else.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

FAINT = 1e-5  # of the largest distance of two samples: at one place they may be near each other by chance
FLAT = 5e-6  # of the largest value: outputs whose samples are no farther apart tell nothing


class Tolerance(NamedTuple):
    """What may differ: shares of the distance of two samples, of a value itself, and of the largest value."""

    fault: float
    rounding: float
    floor: float


# Networks of all kinds were found to differ by 4e-7 of the largest value in ONNX Runtime, alone and with another
# sample, and networks for pictures by 2e-6 between ONNX Runtime and NumPy.
SAME_RUNTIME = Tolerance(1e-3, 4e-6, 2e-6)
OTHER_RUNTIME = Tolerance(1e-3, 1e-5, 5e-6)
CONVERTED = Tolerance(1e-4, 4e-6, 2e-6)


def apart(results: NDArray[Any]) -> NDArray[np.float64]:
    """How far the samples (the first dimension) are apart, at each place; 0 where one of them is not finite."""
    wide = results.astype(np.float64)
    if len(wide) < 2:
        return np.zeros(wide.shape[1:])
    with np.errstate(all="ignore"):
        found = np.ptp(wide, axis=0)
    return np.where(np.isfinite(found), found, 0.0)


def differ(results: NDArray[Any]) -> bool:
    """Whether some finite output is not the same for all samples (the first dimension), beyond rounding."""
    if results.dtype.kind != "f":
        return bool((results != results[:1]).any())
    finite = np.where(np.isfinite(results), results, 0).astype(np.float64)
    return bool((apart(results) > FLAT * np.abs(finite).max(axis=0, initial=0)).any())


def close(
    found: NDArray[Any],
    expected: NDArray[Any],
    distance: NDArray[np.float64] | None = None,
    within: Tolerance = SAME_RUNTIME,
) -> bool:
    """Whether two results (n, …) are equal up to rounding.

    distance: how far samples are apart (see `apart`), where not what is expected tells it.
    """
    if found.shape != expected.shape:
        return False
    one, other = found.astype(np.float64), expected.astype(np.float64)
    size = np.abs(np.where(np.isfinite(other), other, 0))
    between = distance if distance is not None else apart(expected) if expected.ndim else np.zeros(())
    allowed = within.fault * between + FAINT * between.max(initial=0)
    allowed = allowed + within.rounding * size + within.floor * size.max(initial=0)
    with np.errstate(all="ignore"):
        same = (one == other) | (np.abs(one - other) <= allowed) | (np.isnan(one) & np.isnan(other))
    return bool(same.all())
