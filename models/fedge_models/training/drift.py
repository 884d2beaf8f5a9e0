"""Taking back a site's own drift: control variates (SCAFFOLD: Karimireddy et al. 2020) without a word on the wire.

Sites whose data differ pull apart in each round; averaging undoes that only roughly, and the average of networks that
have each run to their own optimum is worse than what one network would learn from all data. SCAFFOLD subtracts the
difference between a site's own and the common direction from every local step, and sends the common direction along.
Here a site reads the common direction off the releases themselves: what the last release changed is what all sites
together did, and the site knows what its own training did (`movement`). Their difference, spread evenly over the steps
of the next training, is the correction. Weighted as the aggregator weighs, the corrections of all sites sum to zero.

Pure; the site keeps its own movement.
"""

from __future__ import annotations

import numpy as np

from ..messages.quantize import Floats
from .personal import Mask

LONGEST = 2.0  # times the site's own movement: what a release did, however far it jumped, must not throw a site off


def correction(movement: Floats, before: Floats, now: Floats, releases: int, share: float, local: Mask) -> Floats:
    """What to add (P,) over the next training.

    movement: what this site's training on the release `before` (P,) did by itself; now: the weights, `releases` later;
    share: 0 to 1, how much of the difference is taken back. Nothing for what stays local.
    """
    drift: Floats = np.where(
        local, np.float32(0), ((now - before) / np.float32(releases) - movement) * np.float32(share)
    )
    length, limit = (float(np.linalg.norm(v.astype(np.float64))) for v in (drift, movement))
    if length > LONGEST * limit:
        drift *= np.float32(LONGEST * limit / length)
    return drift
