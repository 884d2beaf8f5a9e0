# SPDX-License-Identifier: Apache-2.0
"""Whether a release is clearly worse on this site's held-back data than what serves.

A model that decides is judged by its losses and, once it is good, by its decisions: of all rows, and of each class, as
a fault that is rare hardly moves a mean.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from fedge_models.graph.trainable import TrainableGraph
from fedge_models.training.evaluation import row_outcomes
from numpy.typing import NDArray

from ..types import Array

CANARY_MIN = 20  # held-back samples; with fewer a release is not evaluated
SMALL_LOSS = 0.05  # nats of cross entropy, or squared standard deviations: a model this good has nothing to improve
CHANCE = 0.05  # probability of as many more lost rows as there are, if losing and winning a row were as likely
LEAST_LOST = 2  # rows of a class: one alone may be a wrong label

Flags = NDArray[np.bool_]


class Outcome(NamedTuple):
    """What a model makes of n rows with k classes or labels; k is 0 for one that decides nothing."""

    losses: Array  # (n,)
    right: Flags  # (n, k) whether the row's class, or this label of it, is decided rightly
    have: Flags  # (n, k) which rows are of the class, or have the label


def outcome(graph: TrainableGraph, x: Array, y: NDArray[Any]) -> Outcome:
    """What the graph makes of rows x (n, ...) with labels y, as in `Data`."""
    task = graph.card.task
    losses, right = row_outcomes(graph, x, None if task == "anomaly" else y)
    if right is None:
        nothing = np.empty((len(x), 0), np.bool_)
        return Outcome(losses, nothing, nothing)
    have = y > 0 if task == "multilabel" else y[:, None] == np.arange(len(graph.card.labels))
    return Outcome(losses, np.broadcast_to(right, have.shape), have)


def refusal(old: Outcome, new: Outcome, tolerance: float, classes: Sequence[str]) -> str | None:
    """Why `new` is clearly worse than `old` on the same rows; None: it is not.

    While the mean loss of one of them is below `SMALL_LOSS`, decisions count: a loss then only says how sure the model
    is, as 0.000002 and 0.02 nats are probabilities of 1 and 0.98 for what is right. So more loss is worse only if rows
    became wrong beyond chance. But a release under which most of a class goes wrong is worse, however rare the class.
    """
    before, after = float(old.losses.mean()), float(new.losses.mean())
    risen = clearly_worse(old.losses, new.losses, tolerance)
    if old.right.size and np.isfinite(after) and min(before, after) < SMALL_LOSS:
        if (lost := _lost_class(old, new)) is not None:
            of, was, left = lost
            return f"held-back samples of {classes[of]!r} that are decided rightly: {left} against {was}"
        risen &= after >= SMALL_LOSS or _more_wrong(old.right, new.right)
    return f"held-back loss {after:.4g} against {before:.4g}" if risen else None


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


def _more_wrong(before: Flags, after: Flags) -> bool:
    """Whether more rows (n, k) became wrong than right beyond chance: the exact sign test (McNemar 1947)."""
    old, new = np.all(before, axis=1), np.all(after, axis=1)
    lost, either = int((old & ~new).sum()), int((old != new).sum())
    return sum(math.comb(either, k) for k in range(lost, either + 1)) <= CHANCE * 2**either


def _lost_class(old: Outcome, new: Outcome) -> tuple[int, int, int] | None:
    """The class that lost most: its number, and how many of its rows were right and are.

    None unless it lost, on balance, more than half of its rows that were right, and `LEAST_LOST` or more.
    """
    was, left = ((made.right & old.have).sum(axis=0) for made in (old, new))
    lost = np.where(2 * (was - left) > was, was - left, 0)
    of = int(lost.argmax())
    return (of, int(was[of]), int(left[of])) if lost[of] >= LEAST_LOST else None
