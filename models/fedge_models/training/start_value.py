# SPDX-License-Identifier: Apache-2.0
"""What a site offers of its own tensors, so that a new site need not start from untrained ones.

With `local_start = "shared"` on the card, an update holds for the tensors that stay at the site (`personal`) how far
the site's own are from the release's, coded on the release's grid like the rest. It is no step of a training: nothing
is carried over, because the next offer begins with what the release then is. A site that offers nothing sends zeros,
and the least spread for these tensors; one that offers anything states more. The aggregator takes medians of the offers
(`rounds/start_value`). Pure.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..messages.quantize import Codes, Floats, expand, quantize, spread
from .personal import Mask

LEAST_SPREAD = 1e-9  # of a tensor that did not change
OFFERED = 2e-9  # the least spread of a tensor that is offered
WIDEST = 1.0  # quantile of an offer that its grid should span: nothing beyond is fed back


def offered(
    codes: Codes, spreads: Floats, own: Floats, release: Floats, steps: Floats, sizes: NDArray[np.int64], mask: Mask
) -> tuple[Codes, Floats]:
    """Return an update's codes (P,) and spread (T,) with the site's own tensors (mask.sum(),) offered in it.

    release: the weights (P,) that the update is a difference from; steps: its grid (T,).
    """
    away = np.zeros(len(mask), np.float32)
    away[mask] = own - release[mask]
    wide = np.maximum(spread(away, sizes, WIDEST), np.float32(OFFERED))
    made = np.where(mask, quantize(away, expand(steps, sizes)), codes)
    return made, np.where(of_tensors(mask, sizes), wide, spreads)


def offers(spreads: Floats, tensors: NDArray[np.bool_]) -> bool:
    """Whether an update with these spreads (T,) offers anything; tensors: those that stay at the site (T,)."""
    return bool((spreads[tensors] > (LEAST_SPREAD + OFFERED) / 2).any())


def of_tensors(mask: Mask, sizes: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Which tensors (T,) a mask of parameters (P,) is of."""
    ends = np.cumsum(sizes)
    return np.array([mask[end - size : end].any() for end, size in zip(ends, sizes, strict=True)], np.bool_)
