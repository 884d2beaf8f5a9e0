# SPDX-License-Identifier: Apache-2.0
"""Updates as they enter a round's average: on the newest release's grid, and weighted by staleness.

Pure; `average.py` combines them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from fedge_models.messages.quantize import Codes, Floats, dequantize, expand, quantize
from numpy.typing import NDArray

from .round import staleness_weight


class Contribution(NamedTuple):
    """An update as it enters the average, without its codes: those are a row (`engine/update_rows.py`)."""

    node: str
    spread: Floats  # (T,) the range that 127 steps should have had
    samples: int  # as claimed, capped
    staleness: int  # releases since its base
    metrics: dict[str, float]  # on the node's held-back samples
    moved: bool = False  # its base is older, but what it says of local tensors is from the newest (`start_value.moved`)


class Weighing(NamedTuple):
    """The weight of each contribution, and how far their mean moves the model."""

    weights: NDArray[np.float64]  # (n,) > 0, for the rule
    damping: float  # factor of the aggregate, 0 to 1


def regrid(codes: Codes, old: Floats, new: Floats, sizes: NDArray[np.int64]) -> Codes:
    """Codes (P,) of the same difference on another release's grid; old, new: steps (T,).

    Values beyond the new grid's ±127 steps saturate at the nearest value that can be coded. So the distance between two
    updates never grows, and a stale update cannot be longer than a fresh one. What rounding and saturation take away is
    lost: only the node could feed it back, and it has moved on.
    """
    if np.array_equal(old, new):
        return codes
    return quantize(dequantize(codes, expand(old, sizes)), expand(new, sizes))


def weigh(rows: Sequence[Contribution], exponent: float) -> Weighing:
    """Weigh updates by capped sample count and staleness, as FedBuff does (Nguyen et al. 2022).

    FedBuff divides the sum of the updates, each times its staleness weight, by their number and not by their weights: a
    buffer of stale updates moves the model less. Rules divide by the weights, so the mean staleness weight comes back
    as the damping, also for rules that take no weights. Without staleness it is 1. It is the mean over the updates, not
    over their samples: those are claims, and one claim must not say how far the whole release moves.
    """
    claims = np.array([r.samples for r in rows], np.float64)
    fresh = np.array([staleness_weight(r.staleness, exponent) for r in rows])
    return Weighing(claims * fresh, float(fresh.mean()))
