"""The minibatch loop: local training of a graph on arrays, with FedProx and a guard against divergence.

Pure but for the CPU it takes: no clock, no files; the random generator is passed in. Rows that are not finite are
dropped and counted. When the loss stops being finite or explodes the parameters are restored and the report says so.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import losses, optimizers, schedules
from .graph import TrainableGraph
from .ops.operator import Array

Ints = NDArray[np.int64]
EXPLODED = 1e3  # times the first epoch's loss
MAX_CLASS_WEIGHT = 10.0
EVALUATION_VALUES = 64 * 1024  # of the input at once, to bound memory ...
EVALUATION_ROWS = 1024  # ... and at most so many rows
BOUNDS = (
    ("batch", 1, math.inf),
    ("epochs", 0, math.inf),
    ("learning_rate", 0, math.inf),
    ("proximal_mu", 0, math.inf),
    ("clip_norm", 0, math.inf),
    ("momentum", 0, 1),
    ("weight_decay", 0, math.inf),
    ("warmup", 0, 1),
)


@dataclass(frozen=True)
class TrainingConfig:
    """How to train; the defaults are the agent's. Raises ValueError for what cannot be meant."""

    batch: int = 32
    epochs: int = 5
    optimizer: str = "adam"  # optimizers.OPTIMIZERS
    learning_rate: float = 0.001
    proximal_mu: float = 0.01  # weight of mu/2 |w - w0|^2 (FedProx: Li et al. 2020); 0: FedAvg (McMahan et al. 2017)
    clip_norm: float = 0.0  # of each batch's whole gradient (Euclidean); 0: no clipping
    momentum: float = 0.9  # of sgd
    weight_decay: float = 0.01  # of adamw
    schedule: str = "constant"  # schedules.SCHEDULES: of the learning rate over this training
    warmup: float = 0.0  # fraction of this training's steps over which the learning rate rises to full

    def __post_init__(self) -> None:
        for name, known in (("optimizer", optimizers.OPTIMIZERS), ("schedule", tuple(schedules.SCHEDULES))):
            if getattr(self, name) not in known:
                raise ValueError(f"{name} {getattr(self, name)!r}: expected one of {', '.join(known)}")
        for name, low, high in BOUNDS:
            if not low <= getattr(self, name) <= high:
                raise ValueError(f"{name} {getattr(self, name)!r}: expected {low} to {high}")


@dataclass(frozen=True)
class FitReport:
    """What happened."""

    losses: tuple[float, ...]  # mean of each epoch
    rows: int  # trained on
    dropped: int  # rows with NaN or Inf
    diverged: bool  # parameters were restored


def fit(
    graph: TrainableGraph,
    x: Array,
    y: Ints | Array | None,
    config: TrainingConfig,
    rng: np.random.Generator,
    pause: Callable[[], None] | None = None,
) -> FitReport:
    """Train `graph` in place on x (n, *input_shape).

    y: class indices (n,) for classify, targets (n, outputs) for regress, None for anomaly. `pause` is called before
    each batch and may take its time. Raises ValueError when x or y do not fit the graph.
    """
    _check(graph, x, y)
    finite, dropped = np.isfinite(x), 0
    if not finite.all():
        rows = finite.reshape(len(x), -1).all(axis=1)
        dropped = int(len(x) - rows.sum())
        x, y = x[rows], None if y is None else y[rows]
    if not len(x):
        return FitReport((), 0, dropped, False)
    start, history, diverged = graph.params.copy(), [], False
    steps = config.epochs * -(-len(x) // config.batch)
    step = _Step(graph, config, start, None if y is None else _class_weights(graph, y), steps)
    graph.training(rng)
    shuffled = np.empty_like(x)
    try:
        for _ in range(config.epochs):
            history.append(_epoch(step, x, y, shuffled, config.batch, rng, pause))
            if not np.isfinite(history[-1]) or history[-1] > EXPLODED * max(history[0], 1e-3):
                diverged = True
                break
    finally:
        graph.training(None)
        graph.release()
    if diverged or not np.isfinite(graph.params).all():
        graph.set_params(start)
        diverged = True
    return FitReport(tuple(history), len(x), dropped, diverged)


def evaluate(graph: TrainableGraph, x: Array, y: Ints | Array | None) -> dict[str, float]:
    """Figures of the graph on x: `loss` always; accuracy and macro_f1; auroc (anomaly with 0/1 labels); or rmse.

    The loss of an anomaly model is the mean reconstruction error of the rows not labelled 1.
    """
    out = predict(graph, x, logits=True)
    if graph.card.task == "anomaly":
        scores = losses.row_errors(out, x)
        return _anomaly_figures(scores, y)
    assert y is not None
    if graph.card.task == "regress":
        loss, _ = losses.squared_error(out.copy(), y.reshape(out.shape).astype(np.float32))
        return {"loss": loss, "rmse": loss**0.5}
    loss, _ = losses.cross_entropy(out, y.astype(np.int64))
    guess = out.argmax(axis=1)
    return {"loss": loss, "accuracy": float((guess == y).mean()), "macro_f1": macro_f1(y, guess)}


def row_losses(graph: TrainableGraph, x: Array, y: Ints | Array | None) -> Array:
    """The loss of each row (n,), for comparing two sets of weights on the same rows."""
    out = predict(graph, x, logits=True)
    if graph.card.task == "classify":
        assert y is not None
        return losses.cross_entropies(out, y.astype(np.int64))
    return losses.row_errors(out, x if y is None else y.reshape(out.shape).astype(np.float32))


def predict(graph: TrainableGraph, x: Array, logits: bool = False) -> Array:
    """Output for all rows of x, in bounded memory; `logits`: without a classifier's final Softmax."""
    run = graph.logits if logits else graph.forward
    rows = min(EVALUATION_ROWS, max(1, EVALUATION_VALUES // math.prod(graph.input_shape)))
    parts = [run(x[i : i + rows]).copy() for i in range(0, len(x), rows)]
    graph.release()
    return np.concatenate(parts) if parts else np.empty((0, *graph.output_shape), np.float32)


def macro_f1(y: NDArray[np.generic], guess: NDArray[np.generic]) -> float:
    """Unweighted mean of the F1 of each class that occurs in y or guess."""
    scores = []
    for label in np.union1d(y, guess):
        hit = float(((y == label) & (guess == label)).sum())
        scores.append(2 * hit / float((y == label).sum() + (guess == label).sum()))
    return float(np.mean(scores)) if scores else 0.0


def auroc(scores: NDArray[np.floating], positive: NDArray[np.bool_]) -> float:
    """Area under the ROC curve: the chance that a positive scores above a negative, ties half (Mann & Whitney 1947)."""
    _, inverse, counts = np.unique(scores, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[inverse]
    n = int(positive.sum())
    return float((ranks[positive].sum() - n * (n + 1) / 2) / (n * (len(scores) - n)))


class _Step:
    """One optimiser step on one batch, of the given number of steps."""

    def __init__(
        self, graph: TrainableGraph, config: TrainingConfig, start: Array, weights: Array | None, steps: int
    ) -> None:
        self._graph, self._config, self._start = graph, config, start
        self._optimizer = optimizers.build(config.optimizer, start.size, config.momentum, config.weight_decay)
        self._scratch = np.empty_like(start)
        self._done, self._steps = 0, steps
        self._steady = config.schedule == "constant" and not config.warmup
        self._loss = _loss(graph, weights)

    def __call__(self, x: Array, y: Ints | Array | None) -> float:
        graph, config = self._graph, self._config
        out = graph.logits(x)
        loss, dy = self._loss(out, x if y is None else y)
        graph.backward(dy)
        if config.proximal_mu:
            np.subtract(graph.params, self._start, out=self._scratch)
            np.multiply(self._scratch, np.float32(config.proximal_mu), out=self._scratch)
            np.add(graph.grad, self._scratch, out=graph.grad)
        if config.clip_norm:
            optimizers.clip(graph.grad, config.clip_norm)
        self._optimizer.step(graph.params, graph.grad, self._rate())
        return loss

    def _rate(self) -> float:
        config, step = self._config, self._done
        self._done = step + 1
        if self._steady:
            return config.learning_rate
        return config.learning_rate * schedules.factor(config.schedule, step, self._steps, config.warmup)


def _loss(graph: TrainableGraph, weights: Array | None) -> Callable[[Array, Any], tuple[float, Array]]:
    """The loss of the card's task, with its gradient, by output and target of a batch."""
    if graph.card.task == "classify":
        table = np.diag(np.ones(graph.output_shape[0]) if weights is None else weights).astype(graph.params.dtype)
        return losses.CrossEntropy(table, weights is not None)
    return losses.SquaredError()


def _epoch(
    step: _Step,
    x: Array,
    y: Ints | Array | None,
    shuffled: Array,
    batch: int,
    rng: np.random.Generator,
    pause: Callable[[], None] | None,
) -> float:
    """One pass in random order; returns the mean loss. One permutation, so that batches are views."""
    order = rng.permutation(len(x))
    x.take(order, axis=0, out=shuffled, mode="clip")  # the default mode would copy once more
    y = None if y is None else y[order]
    total = 0.0
    with np.errstate(all="ignore"):  # divergence is looked for in the loss
        for i in range(0, len(x), batch):
            if pause is not None:
                pause()
            rows = shuffled[i : i + batch]
            total += step(rows, None if y is None else y[i : i + batch]) * len(rows)
    return total / len(x)


def _class_weights(graph: TrainableGraph, y: NDArray[np.generic]) -> Array | None:
    """Inverse square root of the class frequencies, mean 1 over the rows, so that rare faults are not drowned."""
    if graph.card.task != "classify":
        return None
    counts = np.bincount(y.astype(np.int64), minlength=graph.output_shape[0]).astype(np.float64)
    if (counts > 0).sum() < 2 or counts[counts > 0].min() == counts.max():
        return None
    weights = np.where(counts > 0, np.sqrt(counts.max() / np.maximum(counts, 1)), 0)
    weights = np.minimum(weights, MAX_CLASS_WEIGHT)
    scaled: Array = (weights * counts.sum() / (weights @ counts)).astype(np.float32)
    return scaled


def _anomaly_figures(scores: Array, y: Ints | Array | None) -> dict[str, float]:
    if y is None:
        return {"loss": float(scores.mean())}
    positive = np.asarray(y) == 1
    figures = {"loss": float(scores[~positive].mean())} if (~positive).any() else {"loss": float(scores.mean())}
    if positive.any() and not positive.all():
        figures["auroc"] = auroc(scores, positive)
    return figures


def _check(graph: TrainableGraph, x: Array, y: Ints | Array | None) -> None:
    if x.shape[1:] != graph.input_shape:
        raise ValueError(f"x has rows of shape {x.shape[1:]}, the graph expects {graph.input_shape}")
    if (y is None) != (graph.card.task == "anomaly"):
        raise ValueError(f"task {graph.card.task}: y is {'missing' if y is None else 'given'}")
    if y is not None and len(y) != len(x):
        raise ValueError(f"{len(x)} rows of x, {len(y)} of y")
    classes = graph.output_shape[0]
    if y is not None and graph.card.task == "classify" and len(y) and not 0 <= y.min() <= y.max() < classes:
        raise ValueError(f"class indices {y.min()}..{y.max()}, the graph has {classes} classes")
