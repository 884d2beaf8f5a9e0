"""Updates as they enter a round's average: on one grid, that of the newest release, and what staleness leaves of them.

Pure. What is made of them is `averaging.py`'s.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from fedge_models.messages.quantize import Codes, Floats, dequantize, expand, quantize
from numpy.typing import NDArray

from .round import staleness_weight


class Contribution(NamedTuple):
    """An update as it enters the aggregation, but for its codes: those are a row (`rows.py`)."""

    node: str
    spread: Floats  # (T,) what 127 steps should have spanned
    samples: int  # claimed, capped
    staleness: int  # releases
    metrics: dict[str, float]  # on the node's held-back data


class Weighing(NamedTuple):
    """What each contribution counts, and how far the whole goes."""

    weights: NDArray[np.float64]  # (n,) > 0, for the rule
    damping: float  # factor of the aggregate, 0..1


def regrid(codes: Codes, old: Floats, new: Floats, sizes: NDArray[np.int64]) -> Codes:
    """Codes (P,) of the same difference on another release's grid; old, new: steps (T,).

    What lies beyond the new grid's ±127 steps saturates: of all that can be coded that is the nearest, so the distance
    between two updates never grows by it, and a stale update cannot be louder than a fresh one. What rounding and
    saturation take away is lost: only the node could feed it back, and it has moved on.
    """
    if np.array_equal(old, new):
        return codes
    return quantize(dequantize(codes, expand(old, sizes)), expand(new, sizes))


def weigh(rows: Sequence[Contribution], exponent: float) -> Weighing:
    """By capped sample counts and staleness, as FedBuff does (Nguyen et al. 2022).

    There the sum of the updates, each by its staleness weight, is divided by their number and not by their weights: a
    buffer of stale updates moves the model less. Rules divide by the weights, so the mean weight comes back as the
    damping; a rule that takes no weights is damped by it alike. Without staleness it is 1.
    """
    claims = np.array([r.samples for r in rows], np.float64)
    fresh = np.array([staleness_weight(r.staleness, exponent) for r in rows])
    weights = claims * fresh
    return Weighing(weights, float(weights.sum() / claims.sum()))
