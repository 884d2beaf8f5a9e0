# SPDX-License-Identifier: Apache-2.0
"""Turn a card into what training minimises and evaluation reports: losses, class weights, label skew, target scaling.

Users give and get targets in their own unit; the graph works in the scaled unit of the card, the same at all sites.
Pure. The minibatch loop is in `loop.py`, the formulas are in `losses.py`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..graph.card import Card
from ..ops.operator import Array
from . import losses

Loss = Callable[[Array, Any], "tuple[float, Array]"]  # (output, target) -> (mean loss, gradient by output)
MAX_CLASS_WEIGHT = 10.0  # times the commonest class: a few rows must not dominate the training


def build(card: Card, counts: NDArray[np.int64] | None, dtype: Any = np.float32) -> Loss:
    """Return the loss of a card, for a site with `counts` of its labels (`count`)."""
    how, name = card.objective, card.loss
    if card.task == "multilabel":
        assert counts is not None
        return losses.BinaryCrossEntropy(label_weights(counts, how.class_weights, dtype), how.label_smoothing)
    if card.task != "classify":
        plain: dict[str, Loss] = {
            "squared": losses.SquaredError(),
            "huber": lambda y, target: losses.huber(y, target, how.huber_delta),
            "pinball": lambda y, target: losses.pinball(y, target, how.quantile),
        }
        return plain[name]
    assert counts is not None
    weights, offset = class_weights(counts, how.class_weights), skew_offset(counts, how.label_skew)
    if name == "focal":
        return lambda y, labels: losses.focal(y if offset is None else y + offset, labels, how.focal_gamma, weights)
    if offset is None:
        rows = (1 - how.label_smoothing) * np.eye(len(counts)) + how.label_smoothing / len(counts)
        table = rows if weights is None else rows * weights[:, None]
        return losses.CrossEntropy(table.astype(dtype), weights is not None)
    return lambda y, labels: losses.adjusted_cross_entropy(y, labels, weights, offset, how.label_smoothing)


def count(card: Card, y: NDArray[Any] | None) -> NDArray[np.int64] | None:
    """Count labels: rows of each class (classes,), or (multilabel) rows without and with each label (2, labels)."""
    if y is None or card.task not in ("classify", "multilabel"):
        return None
    if card.task == "classify":
        return np.bincount(y.astype(np.int64), minlength=len(card.labels))
    present = (y > 0).sum(axis=0)
    return np.stack([len(y) - present, present]).astype(np.int64)


def known(task: str, y: NDArray[Any]) -> NDArray[np.bool_]:
    """Which rows (n,) have a label: none is -1, or NaN in a value of (n,) or (n, targets)."""
    if task in ("regress", "multilabel"):
        return np.isfinite(y.reshape(len(y), math.prod(y.shape[1:]))).all(axis=1)
    found: NDArray[np.bool_] = y >= 0
    return found


def check_labels(card: Card, y: NDArray[Any]) -> None:
    """Raise ValueError unless y are labels (n, labels) of 0 and 1, or NaN where unknown."""
    if y.shape[1:] != (len(card.labels),):
        raise ValueError(f"y is {y.shape}, expected 0 or 1 for each of the {len(card.labels)} labels, (n, labels)")
    if strange := set(np.unique(y[np.isfinite(y)]).tolist()) - {0, 1}:
        raise ValueError(f"y has the value {min(strange):g}, expected 0 or 1 for each label, NaN where unknown")


def label_weights(counts: NDArray[np.int64], how: str, dtype: Any = np.float32) -> Array | None:
    """Weights (2, labels) of rows without and with each label, of mean 1 over the rows; see `class_weights`.

    That is the `pos_weight` of other tools, scaled so that a rare label counts as much as a common one in all.
    """
    if how == "none":
        return None
    columns = [class_weights(column, how) for column in counts.T]
    if all(column is None for column in columns):
        return None
    made: Array = np.stack([np.ones(2) if c is None else c for c in columns], axis=1).astype(dtype)
    return made


def class_weights(counts: NDArray[np.int64], how: str) -> Array | None:
    """Weights (classes,) with mean 1 over the rows: inverse class frequencies ("balanced"), or their square root.

    None where all classes that occur are as frequent, or there is only one.
    """
    present = counts[counts > 0]
    if how == "none" or len(present) < 2 or present.min() == present.max():
        return None
    ratio = counts.max() / np.maximum(counts, 1)
    weights = np.where(counts > 0, np.minimum(ratio**0.5 if how == "sqrt" else ratio, MAX_CLASS_WEIGHT), 0)
    scaled: Array = (weights * counts.sum() / (weights @ counts)).astype(np.float32)
    return scaled


def skew_offset(counts: NDArray[np.int64], how: str) -> Array | None:
    """Return what to add to the logits (classes,) while training on rows with these class counts; None: nothing.

    "adjust": log of the class's share, one row added to each class so that a site with a single class still learns
    (Menon et al. 2021, with local priors as in FedLC: Zhang et al. 2022). "restrict": -inf for classes that the site
    does not have (restricted softmax: the limit of FedRS, Li & Zhan 2021); nothing where it has only one.
    """
    if how == "none":
        return None
    if how == "adjust":
        prior: Array = np.log((counts + 1) / (counts.sum() + len(counts))).astype(np.float32)
        return prior
    if (counts > 0).sum() < 2 or (counts > 0).all():
        return None
    masked: Array = np.where(counts > 0, 0, -np.inf).astype(np.float32)
    return masked


def scaled(card: Card, y: NDArray[np.generic], outputs: tuple[int, ...]) -> Array:
    """Scale targets (n,) or (n, targets) in the user's unit to what the graph should give (n, *outputs), clipped."""
    rows = np.asarray(y, np.float64).reshape(len(y), *outputs)
    if not card.targets:
        return rows.astype(np.float32)
    low, high, centre, scale = _columns(card)
    made: Array = ((np.clip(rows, low, high) - centre) / scale).astype(np.float32)
    return made


def unscaled(card: Card, out: Array) -> Array:
    """Convert outputs of the graph (n, targets) to the user's unit, clipped to the card's range."""
    if not card.targets:
        return out
    low, high, centre, scale = _columns(card)
    made: Array = np.clip(out * scale + centre, low, high).astype(np.float32)
    return made


def possible(card: Card, y: NDArray[np.floating]) -> NDArray[np.float64]:
    """Clip targets (n, targets) in the user's unit to the card's range."""
    low, high, _, _ = _columns(card)
    return np.clip(y, low, high)


def _columns(card: Card) -> tuple[NDArray[np.float64], ...]:
    """low, high, centre and scale, each (targets,)."""
    rows = [
        (-np.inf if t.low is None else t.low, np.inf if t.high is None else t.high, *t.scaling()) for t in card.targets
    ]
    return tuple(np.array(column, np.float64) for column in zip(*rows, strict=True))


def row_losses(card: Card, out: Array, target: Array) -> Array:
    """The loss of each row (n,), unweighted; target: class indices, labels, scaled targets, or the input (anomaly)."""
    if card.task == "classify":
        return losses.cross_entropies(out, np.asarray(target, np.int64))
    if card.task == "multilabel":
        return losses.binary_cross_entropies(out, target)
    difference = (out - target).reshape(len(out), -1)
    if card.loss == "huber":
        inner = np.clip(difference, -card.objective.huber_delta, card.objective.huber_delta)
        each = inner * (difference - inner / 2)
    elif card.loss == "pinball":
        each = difference * np.where(difference > 0, 1 - card.objective.quantile, -card.objective.quantile)
    else:
        return losses.row_errors(out, target)
    rows: Array = each.mean(axis=1).astype(np.float32)
    return rows
