# SPDX-License-Identifier: Apache-2.0
"""Train a graph on arrays, batch by batch, with FedProx and a guard against divergence.

No clock, no files; the random generator is passed in. Rows that are not finite are dropped and counted. When the loss
stops being finite or explodes, the parameters are restored and the report says so.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..graph.trainable import TrainableGraph
from ..ops.operator import Array
from . import objective
from .config import TrainingConfig
from .dense_steps import DenseSteps
from .graph_steps import GraphSteps
from .steps import Setup, Steps

Ints = NDArray[np.int64]
EXPLODED = 1e3  # times the first epoch's loss
SHUFFLED_BYTES = 4 * 1024 * 1024


@dataclass(frozen=True)
class FitReport:
    """The outcome of a training."""

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
    drift: Array | None = None,
) -> FitReport:
    """Train `graph` in place on x (n, *input_shape).

    y: class indices (n,) for classify, 0 and 1 (n, labels) for multilabel, targets (n,) or (n, targets) in the user's
    unit for regress, None for anomaly.
    `pause` is called before each batch and may take its time. `drift` (P,) is added to the parameters over the whole of
    this training, evenly by step (`fedge_models.training.drift`). Raises ValueError when x or y do not fit the graph.
    """
    _check(graph, x, y)
    if y is not None and graph.card.task == "regress":
        y = objective.scaled(graph.card, y, graph.output_shape)
    x, y, dropped = _finite_rows(x, y)
    if not len(x):
        return FitReport((), 0, dropped, False)
    start, history, diverged = graph.params.copy(), [], False
    steps = config.epochs * -(-len(x) // config.batch)
    loss = objective.build(graph.card, objective.count(graph.card, y), graph.params.dtype)
    kind = DenseSteps if graph.chain else GraphSteps
    trained: Steps = kind(Setup(graph, config, loss, steps, start, drift))
    graph.training(rng)
    batches = max(1, SHUFFLED_BYTES // (x[:1].nbytes * config.batch))
    shuffled = np.empty((min(len(x), batches * config.batch), *x.shape[1:]), x.dtype)
    try:
        for _ in range(config.epochs):
            history.append(_epoch(trained, x, y, shuffled, rng, pause))
            if not np.isfinite(history[-1]) or history[-1] > EXPLODED * max(history[0], 1e-3):
                diverged = True
                break
    finally:
        trained.finish()
        graph.training(None)
        graph.release()
    if diverged or not np.isfinite(graph.params).all():
        graph.set_params(start)
        diverged = True
    return FitReport(tuple(history), len(x), dropped, diverged)


def _finite_rows(x: Array, y: Ints | Array | None) -> tuple[Array, Ints | Array | None, int]:
    """Leave out the rows in which a value is not finite; return x, y and how many were left out."""
    keep = np.ones(len(x), np.bool_)
    for values in (x, y):
        if values is not None and not (found := np.isfinite(values)).all():
            keep &= found.reshape(len(values), -1).all(axis=1)
    if keep.all():
        return x, y, 0
    return x[keep], None if y is None else y[keep], int(len(x) - keep.sum())


def _epoch(
    steps: Steps,
    x: Array,
    y: Ints | Array | None,
    shuffled: Array,
    rng: np.random.Generator,
    pause: Callable[[], None] | None,
) -> float:
    """Pass over all rows once in random order; return the mean loss.

    Rows are shuffled many batches at a time, so that a batch is a view. The copy stays small beside a large x.
    """
    order, total = rng.permutation(len(x)), 0.0
    with np.errstate(all="ignore"):  # divergence is detected in the loss
        for start in range(0, len(x), len(shuffled)):
            chosen = order[start : start + len(shuffled)]
            rows = shuffled[: len(chosen)]
            x.take(chosen, axis=0, out=rows, mode="clip")  # the default mode would copy once more
            total += steps.run(rows, rows if y is None else y[chosen], pause)
    return total / len(x)


def _check(graph: TrainableGraph, x: Array, y: Ints | Array | None) -> None:
    if x.shape[1:] != graph.input_shape:
        raise ValueError(f"x has rows of shape {x.shape[1:]}, the graph expects {graph.input_shape}")
    if (y is None) != (graph.card.task == "anomaly"):
        raise ValueError(f"task {graph.card.task}: y is {'missing' if y is None else 'given'}")
    if y is not None and len(y) != len(x):
        raise ValueError(f"{len(x)} rows of x, {len(y)} of y")
    classes, outputs = graph.output_shape[0], int(np.prod(graph.output_shape))
    if graph.card.targets and len(graph.card.targets) != outputs:
        raise ValueError(f"the card has {len(graph.card.targets)} targets, the graph {outputs} outputs")
    if y is not None and graph.card.task == "regress" and y.size != len(x) * outputs:
        raise ValueError(f"y has {y.size // max(1, len(x))} targets a row, the graph {outputs} outputs")
    if y is not None and graph.card.task == "multilabel":
        objective.check_labels(graph.card, y)
    if y is not None and graph.card.task == "classify" and len(y) and not 0 <= y.min() <= y.max() < classes:
        raise ValueError(f"class indices {y.min()}..{y.max()}, the graph has {classes} classes")
