"""How far an estimate may be off, from errors on data that was held back: split conformal prediction. Pure.

Papadopoulos et al. 2002; Lei et al. 2018, "Distribution-Free Predictive Inference for Regression", JASA 113. For data
that is exchangeable with what was held back, an interval holds the truth with the stated probability whatever the model
is. A machine that drifts away from it does not keep that promise: the next release's errors will tell.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray


def margins(errors: NDArray[np.floating], confidence: float) -> tuple[float, float] | None:
    """(low, high) to add to an estimate, from errors (n,) = truth - estimate; None when n is too small for them.

    Each side is missed with probability (1 - confidence) / 2 at most: the k-th largest error with
    k = ceil((n + 1) (1 - miss)) (Lei et al., algorithm 2).
    """
    known = np.sort(errors[np.isfinite(errors)])
    n, miss = len(known), (1 - confidence) / 2
    k = math.ceil((n + 1) * (1 - miss))
    if not 1 <= k <= n:
        return None
    return float(known[n - k]), float(known[k - 1])
