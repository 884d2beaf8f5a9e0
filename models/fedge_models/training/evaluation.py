# SPDX-License-Identifier: Apache-2.0
"""Evaluate a graph on rows of data, in the figures of its task; in bounded memory, without changing the graph.

The formulas of the figures are here, those of the losses in `losses.py`.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from ..graph.card import Card
from ..graph.trainable import TrainableGraph
from ..ops.operator import Array
from . import losses, objective

Ints = NDArray[np.int64]
EVALUATION_VALUES = 64 * 1024  # of the input at once, to bound memory ...
EVALUATION_ROWS = 1024  # ... and at most so many rows


def evaluate(graph: TrainableGraph, x: Array, y: Ints | Array | None) -> dict[str, float]:
    """Return the figures of the graph on x (n, *input_shape): `loss` always, and by task

    classify: accuracy, macro_f1; with two classes also auroc and average_precision of the one that is not normal.
    multilabel: accuracy (all labels of a row right), macro_f1 at the card's limits, auroc and average_precision (means
    over the labels that some rows have and some lack); then `f1_<label>`, `ap_<label>`, `auroc_<label>` of each.
    anomaly: auroc where the labels (0/1) have both; its loss is the mean reconstruction error of rows not labelled 1.
    regress: rmse and mae in the target's unit; with several targets `rmse_<name>` of each.
    """
    with np.errstate(all="ignore"):  # of weights that diverged or overflow the figures are no numbers, which tells it
        return figures(graph, predict(graph, x, logits=True), x, y)


def figures(graph: TrainableGraph, out: Array, x: Array, y: Ints | Array | None) -> dict[str, float]:
    """Return the figures of outputs (n, ...) for x, as `evaluate`; those of a classifier are logits."""
    card = graph.card
    if card.task == "anomaly":
        return _anomaly_figures(objective.row_losses(card, out, x), losses.row_errors(out, x), y)
    assert y is not None
    if card.task == "classify":
        return _class_figures(graph, out, y.astype(np.int64))
    if card.task == "multilabel":
        return _label_figures(card, out, np.asarray(y, np.float32))
    loss = float(objective.row_losses(card, out, objective.scaled(card, y, graph.output_shape)).mean())
    return {"loss": loss, **_regression_figures(graph, out, y)}


def row_losses(graph: TrainableGraph, x: Array, y: Ints | Array | None) -> Array:
    """The loss of each row (n,), for comparing two sets of weights on the same rows."""
    return row_outcomes(graph, x, y)[0]


def row_outcomes(graph: TrainableGraph, x: Array, y: Ints | Array | None) -> tuple[Array, NDArray[np.bool_] | None]:
    """The loss of each row (n,), and whether its class (n, 1) or each of its labels (n, labels) is decided rightly.

    None for a model that decides nothing of the kind, such as one that estimates.
    """
    card, target = graph.card, x if y is None else y
    out = predict(graph, x, logits=True)
    if card.task == "regress":
        target = objective.scaled(card, target, graph.output_shape)
    with np.errstate(all="ignore"):  # of weights that overflow the losses are no numbers
        found = objective.row_losses(card, out, target)  # type: ignore[arg-type]  # class indices too
        if y is None or card.task not in ("classify", "multilabel"):
            return found, None
        right = (out.argmax(1) == y)[:, None] if card.task == "classify" else _holds(card, out) == (y > 0)
    return found, right


def predict(graph: TrainableGraph, x: Array, logits: bool = False) -> Array:
    """Run the graph on all rows of x, in bounded memory; `logits`: without a classifier's final Softmax."""
    run = graph.logits if logits else graph.forward
    rows = min(EVALUATION_ROWS, max(1, EVALUATION_VALUES // math.prod(graph.input_shape)))
    with np.errstate(all="ignore"):  # a step may give NaN where a later one takes another value, as in ONNX Runtime
        parts = [run(x[i : i + rows]).copy() for i in range(0, len(x), rows)]
    graph.release()
    return np.concatenate(parts) if parts else np.empty((0, *graph.output_shape), np.float32)


def macro_f1(y: NDArray[np.generic], guess: NDArray[np.generic]) -> float:
    """Unweighted mean of the F1 of each class that occurs in y or guess."""
    scores = []
    for label in sorted({*y.tolist(), *guess.tolist()}):
        hit = float(((y == label) & (guess == label)).sum())
        scores.append(2 * hit / float((y == label).sum() + (guess == label).sum()))
    return float(np.mean(scores)) if scores else 0.0


def auroc(scores: NDArray[np.floating], positive: NDArray[np.bool_]) -> float:
    """Area under the ROC curve: the chance that a positive scores above a negative, ties half (Mann & Whitney 1947)."""
    _, inverse, counts = np.unique(scores, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[inverse]
    n = int(positive.sum())
    return float((ranks[positive].sum() - n * (n + 1) / 2) / (n * (len(scores) - n)))


def average_precision(scores: NDArray[np.floating], positive: NDArray[np.bool_]) -> float:
    """Mean over the positives of the precision at each one's score (tied scores count as one threshold)."""
    order = np.argsort(-scores, kind="stable")
    ends = np.append(np.flatnonzero(np.diff(scores[order])), len(scores) - 1)
    hits = np.cumsum(positive[order])[ends]
    found = np.diff(hits, prepend=0)
    return float((found * hits / (ends + 1)).sum() / positive.sum())


def _class_figures(graph: TrainableGraph, out: Array, y: Ints) -> dict[str, float]:
    guess = out.argmax(axis=1)
    found = {
        "loss": float(losses.cross_entropies(out, y).mean()),
        "accuracy": float((guess == y).mean()),
        "macro_f1": macro_f1(y, guess),
    }
    bad = y != graph.card.normal_index
    if graph.output_shape[0] == 2 and 0 < bad.sum() < len(y):
        scores = out[:, 1 - graph.card.normal_index] - out[:, graph.card.normal_index]
        found |= {"auroc": auroc(scores, bad), "average_precision": average_precision(scores, bad)}
    return found


def _label_figures(card: Card, out: Array, y: Array) -> dict[str, float]:
    true, guess = y > 0, _holds(card, out)
    hits, both = (true & guess).sum(axis=0), true.sum(axis=0) + guess.sum(axis=0)
    f1 = np.where(both > 0, 2 * hits / np.maximum(both, 1), np.nan)
    mixed = [i for i in range(len(card.labels)) if 0 < true[:, i].sum() < len(true)]
    ranked = {card.labels[i]: (average_precision(out[:, i], true[:, i]), auroc(out[:, i], true[:, i])) for i in mixed}
    figures = {
        "loss": float(losses.binary_cross_entropies(out, y).mean()),
        "accuracy": float((true == guess).all(1).mean()),
    }
    if (both > 0).any():
        figures["macro_f1"] = float(np.nanmean(f1))
    if ranked:
        ap, area = (float(np.mean([found[i] for found in ranked.values()])) for i in (0, 1))
        figures |= {"average_precision": ap, "auroc": area}
    figures |= {f"f1_{name}": float(v) for name, v in zip(card.labels, f1, strict=True) if np.isfinite(v)}
    figures |= {f"ap_{name}": ap for name, (ap, _) in ranked.items()}
    return figures | {f"auroc_{name}": area for name, (_, area) in ranked.items()}


def _holds(card: Card, logits: Array) -> NDArray[np.bool_]:
    """Which labels (n, labels) have a probability above their limit."""
    limits = np.array(card.limits)
    found: NDArray[np.bool_] = logits > np.log(limits / (1 - limits))
    return found


def _regression_figures(graph: TrainableGraph, out: Array, y: NDArray[np.generic]) -> dict[str, float]:
    card = graph.card
    true = objective.unscaled(card, objective.scaled(card, y, graph.output_shape)).reshape(len(y), -1)
    error = (objective.unscaled(card, out).reshape(len(y), -1) - true).astype(np.float64)
    rmse = np.sqrt((error**2).mean(axis=0))
    if error.shape[1] == 1:
        return {"rmse": float(rmse[0]), "mae": float(np.abs(error).mean())}
    names = [t.name for t in card.targets] or [str(i) for i in range(error.shape[1])]
    return {f"rmse_{name}"[:32]: float(value) for name, value in zip(names, rmse, strict=True)}


def _anomaly_figures(row_losses: Array, scores: Array, y: Ints | Array | None) -> dict[str, float]:
    """`row_losses` (n,) are what training minimises, `scores` (n,) what a gateway compares with its threshold."""
    if y is None:
        return {"loss": float(row_losses.mean())}
    positive = np.asarray(y) == 1
    figures = {"loss": float((row_losses if positive.all() else row_losses[~positive]).mean())}
    if positive.any() and not positive.all():
        figures["auroc"] = auroc(scores, positive)
    return figures
