# SPDX-License-Identifier: Apache-2.0
"""Whether a release is clearly worse on this site's held-back data than what serves. Pure."""

from __future__ import annotations

import numpy as np

from ..types import Array

CANARY_MIN = 20  # held-back samples; with fewer a release is not evaluated
SMALL_LOSS = 0.05  # nats of cross entropy, or squared standard deviations: a model this good has nothing to improve


def clearly_worse(old: Array, new: Array, tolerance: float) -> bool:
    """Whether the losses (n,) of the same rows rose by more than the tolerated fraction, and by more than chance.

    Chance: twice the standard error of the paired differences. A loss near zero doubles for no reason, so the
    fraction is never taken of less than `SMALL_LOSS`. Losses that are not finite are worse.
    """
    difference = new - old
    rise = float(difference.mean())
    if not np.isfinite(rise):
        return True
    return (
        rise > tolerance * max(float(old.mean()), SMALL_LOSS)
        and rise > 2 * float(difference.std()) / len(difference) ** 0.5
    )
