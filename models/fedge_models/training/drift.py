# SPDX-License-Identifier: Apache-2.0
"""Correct a site's own drift by control variates (SCAFFOLD: Karimireddy et al. 2020), without extra messages.

Sites whose data differ diverge in each round. Averaging undoes that only roughly: the average of networks that have
each run to their own optimum is worse than what one network would learn from all data. SCAFFOLD subtracts the
difference between a site's own and the common direction from every local step, and sends the common direction along.
Here a site takes the common direction from the releases: what the last release changed is what all sites did together,
and the site knows what its own training did (`movement`). Their difference, spread evenly over the steps of the next
training, is the correction. Weighted as the aggregator weighs, the corrections of all sites sum to zero.

Pure; the site stores its own movement.
"""

from __future__ import annotations

import numpy as np

from ..messages.quantize import Floats
from .personal import Mask

LONGEST = 2.0  # times the site's own movement: a release that jumps far must not make a site diverge


def correction(movement: Floats, before: Floats, now: Floats, releases: int, share: float, local: Mask) -> Floats:
    """Return what to add (P,) over the next training.

    movement: what this site's training on the release `before` (P,) did by itself; now: the weights, `releases` later;
    share: 0 to 1, how much of the difference is corrected; local: parameters that stay at the site, not corrected.
    """
    drift: Floats = np.where(
        local, np.float32(0), ((now - before) / np.float32(releases) - movement) * np.float32(share)
    )
    length, limit = (float(np.linalg.norm(v.astype(np.float64))) for v in (drift, movement))
    if length > LONGEST * limit:
        drift *= np.float32(LONGEST * limit / length)
    return drift
