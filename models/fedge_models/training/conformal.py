# SPDX-License-Identifier: Apache-2.0
"""Bound the error of an estimate by errors on held-back data: split conformal prediction. Pure.

Papadopoulos et al. 2002; Lei et al. 2018, "Distribution-Free Predictive Inference for Regression", JASA 113. For data
that is exchangeable with what was held back, an interval contains the truth with the stated probability, whatever the
model is. For a machine that drifts the bounds do not hold; the errors of the next release will show it.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray


def margins(errors: NDArray[np.floating], confidence: float) -> tuple[float, float] | None:
    """Return (low, high) to add to an estimate, from errors (n,) = truth - estimate; None when n is too small.

    Each side is missed with probability (1 - confidence) / 2 at most: the k-th largest error with
    k = ceil((n + 1) (1 - miss)) (Lei et al., algorithm 2).
    """
    known = np.sort(errors[np.isfinite(errors)])
    n, miss = len(known), (1 - confidence) / 2
    k = math.ceil((n + 1) * (1 - miss))
    if not 1 <= k <= n:
        return None
    return float(known[n - k]), float(known[k - 1])
