# SPDX-License-Identifier: Apache-2.0
"""Whether a release is clearly worse on this site's held-back data than what serves. Pure."""

from __future__ import annotations

import math

import numpy as np
from fedge_models.graph.card import Card
from numpy.typing import NDArray

from ..types import Array

CANARY_MIN = 20  # held-back samples; with fewer a release is not evaluated
SMALL_LOSS = 0.05  # nats of cross entropy, or squared standard deviations: a model this good has nothing to improve


def clearly_worse(old: Array, new: Array, tolerance: float, right_below: float | None = None) -> bool:
    """Whether the losses (n,) of the same rows rose by more than the tolerated fraction, and by more than chance.

    Chance: twice the standard error of the paired differences. A loss near zero doubles for no reason, so the
    fraction is never taken of less than `SMALL_LOSS`. Losses that are not finite are worse.

    right_below (`surely_right`): a model that decides is judged by its decisions while its loss is below `SMALL_LOSS`.
    There a loss only says how sure it is: 0.000002 and 0.02 nats are probabilities of 1 and 0.98 for what is right.
    """
    difference = new - old
    rise = float(difference.mean())
    if not np.isfinite(rise):
        return True
    risen = (
        rise > tolerance * max(float(old.mean()), SMALL_LOSS)
        and rise > 2 * float(difference.std()) / len(difference) ** 0.5
    )
    if right_below is None or float(new.mean()) >= SMALL_LOSS:
        return risen
    return risen and _decides_worse(old < right_below, new < right_below)


def surely_right(card: Card) -> float | None:
    """The loss below which a row is decided rightly, by each of its labels; None for a model that decides nothing."""
    if card.task == "classify":
        return math.log(2)  # more than half of the probability
    if card.task == "multilabel":  # the mean over the labels: even if the rest were free, none is on the wrong side
        return -math.log(max(max(limit, 1 - limit) for limit in card.limits)) / len(card.limits)
    return None


def _decides_worse(old: NDArray[np.bool_], new: NDArray[np.bool_]) -> bool:
    """Whether more rows (n,) became wrong than right, beyond chance: two standard errors (McNemar 1947)."""
    lost, won = int((old & ~new).sum()), int((new & ~old).sum())
    return lost - won > 2 * (lost + won) ** 0.5
