# SPDX-License-Identifier: Apache-2.0
"""What a decision is compared with: the alarm threshold, and how far an estimate may be off. Both from local data."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from fedge_models.graph.trainable import TrainableGraph
from fedge_models.training import conformal, extremes, objective
from fedge_models.training.evaluation import predict

from ..types import Array
from .training import MIN_HELD, Data


class Limit(NamedTuple):
    """The score from which a decision alarms."""

    score: float
    usual: Array | None = None  # anomaly: mean score of each channel (channels,) in normal windows, to name the cause


def threshold(graph: TrainableGraph, held: Data, train: Data) -> Limit:
    """Return the limit of a model's score by its task.

    anomaly: the card's quantile of the scores of the site's own normal windows, counted or from a fitted tail;
    classify: one half; regress: 1, the alarm level (`serving`).
    Held-back windows are used when there are enough. With few windows the quantile is the largest score seen.
    Wild windows are not among them (`LocalModel.usable`): one would be the largest score seen, and no fault above it.
    """
    if graph.card.task != "anomaly":
        return Limit(0.5 if graph.card.task == "classify" else 1.0)
    x = held.x if len(held.x) >= MIN_HELD else np.concatenate([held.x, train.x])
    if not len(x):
        return Limit(float("inf"))
    difference = (predict(graph, x) - x).reshape(len(x), len(graph.card.channels), -1)
    by_channel = np.einsum("ncj,ncj->nc", difference, difference) / np.float32(difference.shape[2])
    quantile = extremes.quantile if graph.card.threshold_fit == "peaks" else np.quantile
    limit = float(quantile(by_channel.mean(axis=1), graph.card.threshold_quantile))
    return Limit(limit, np.maximum(by_channel.mean(axis=0), np.float32(1e-6)))


def margins(graph: TrainableGraph, held: Data, confidence: float) -> dict[str, tuple[float, float]]:
    """Return what to add to an estimate of each target so that the truth lies between (`conformal`).

    Only for regress. Targets with too few held-back samples are left out.
    """
    if not graph.card.targets or not len(held.x):
        return {}
    estimates = objective.unscaled(graph.card, predict(graph, held.x)).reshape(len(held.x), -1)
    truth = objective.possible(graph.card, held.y.reshape(len(held.x), -1))
    found = (conformal.margins(e, confidence) for e in (truth - estimates).T)
    return {t.name: m for t, m in zip(graph.card.targets, found, strict=False) if m is not None}
