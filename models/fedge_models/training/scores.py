# SPDX-License-Identifier: Apache-2.0
"""The score of each row that a gateway compares with its alarm threshold."""

from __future__ import annotations

import numpy as np

from ..graph.card import Card
from ..graph.trainable import TrainableGraph
from ..ops.operator import Array
from . import losses, objective
from .evaluation import predict


def scores(graph: TrainableGraph, x: Array) -> Array:
    """Return the score (n,) of standardised rows x (n, *input_shape), by the card's task.

    anomaly: mean squared reconstruction error; classify: 1 - P(normal label); multilabel: the largest ratio of a
    label's probability to its limit; regress: 1 at the nearest alarm level of a target, plus the distance beyond it in
    units of the target's scale, and 0 where no target has an alarm level.
    """
    card = graph.card
    out = predict(graph, x, logits=True)
    if card.task == "anomaly":
        return losses.row_errors(out, x)
    if card.task == "classify":
        return np.float32(1) - probabilities(out)[:, card.normal_index]
    if card.task == "multilabel":
        ratios: Array = (sigmoids(out) / np.array(card.limits, np.float32)).max(axis=1)
        return ratios
    return _alarm_scores(card, objective.unscaled(card, out).reshape(len(out), -1))


def probabilities(logits: Array) -> Array:
    """Softmax of logits (n, classes)."""
    p: Array = np.exp(logits - logits.max(axis=1, keepdims=True))
    p /= p.sum(axis=1, keepdims=True)
    return p


def sigmoids(logits: Array) -> Array:
    """Probabilities of logits (n, labels), each by itself."""
    small = np.exp(-np.abs(logits))
    p: Array = np.where(logits >= 0, 1, small).astype(logits.dtype) / (1 + small)
    return p


def _alarm_scores(card: Card, estimates: Array) -> Array:
    """Scores (n,) of estimates (n, targets) in the targets' units."""
    worst = np.zeros(len(estimates), np.float32)
    for column, target in zip(estimates.T, card.targets, strict=False):
        beyond = [target.beyond(float(value)) for value in column]
        if None not in beyond:
            worst = np.maximum(worst, 1 + np.array(beyond, np.float32))
    return worst
