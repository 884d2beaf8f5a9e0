"""A model tried by hand, with the very code that a running gateway uses: what it is, what it costs, what it learns.

Leaves files and output to the command line; clock and generator are passed in.
"""

from __future__ import annotations

import tracemalloc
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import msgspec
import numpy as np
from fedge_models.graph.trainable import TrainableGraph
from fedge_models.training import standardise
from fedge_models.training.config import TrainingConfig
from fedge_models.training.evaluation import evaluate
from fedge_models.training.loop import FitReport, fit
from fedge_models.training.standardise import Scale

from ..health import rss_mib
from ..types import Array
from .dataset import Dataset

TRIAL_ROWS = 256


class Cost(NamedTuple):
    """Of training on this board, measured."""

    samples_per_s: float  # each time a sample is trained on
    trunk_ms: float  # once for each new sample; 0 without a trunk
    buffers_mib: float  # what training allocates beyond model and data
    resident_mib: float  # of this whole process, with the model


class Result(NamedTuple):
    """Of one training by hand."""

    report: FitReport
    before: dict[str, float]  # on the part that is judged
    after: dict[str, float]


def describe(graph: TrainableGraph) -> dict[str, Any]:
    """What the file holds, as plain data."""
    card = graph.card
    return {
        "task": card.task,
        "description": card.description,
        "channels": {c.name: c.unit for c in card.channels},
        "window": {"rate_hz": card.window.rate_hz, "length": card.window.length, "hop": card.window.hop},
        "features": list(card.features),
        **({"image": msgspec.to_builtins(card.image)} if card.image is not None else {}),
        "labels": list(card.labels),
        "targets": {t.name: t.unit for t in card.targets},
        "loss": card.loss,
        "input": list(graph.input_shape),
        "output": list(graph.output_shape),
        "trunk": _trunk(graph),
        "tail": sorted_counts(graph.operators),
        "trainable_parameters": int(graph.params.size),
        "trainable": {t.name: list(t.shape) for t in graph.layout},
    }


def sorted_counts(names: Sequence[str]) -> dict[str, int]:
    """How often each name occurs, in the order of the names."""
    return dict(sorted(Counter(names).items()))


def _trunk(graph: TrainableGraph) -> dict[str, int]:
    """What of the graph is frozen and run by ONNX Runtime."""
    if graph.trunk is None:
        return {}
    return {**sorted_counts(graph.trunk.operators), "parameters": graph.trunk.parameters}


def cost(graph: TrainableGraph, batch: int, clock: Callable[[], float], rng: np.random.Generator) -> Cost:
    """Train on random rows for a moment; the parameters are put back."""
    x, y = rng.normal(size=(TRIAL_ROWS, *graph.input_shape)).astype(np.float32), random_targets(graph, rng)
    config, start = TrainingConfig(batch=batch, epochs=1), graph.params.copy()
    began = clock()
    if graph.trunk is not None:
        graph.trunk(x)
    through = clock() - began
    tracemalloc.start()
    fit(graph, x, y, config, rng)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    began = clock()
    fit(graph, x, y, config, rng)
    seconds = clock() - began
    graph.set_params(start)
    trunk_ms = through / TRIAL_ROWS * 1000 if graph.trunk is not None else 0.0
    return Cost(TRIAL_ROWS / max(seconds, 1e-9), trunk_ms, max(0, peak - x.nbytes) / 2**20, rss_mib())


def random_targets(graph: TrainableGraph, rng: np.random.Generator) -> Any:
    """Something to train towards for each trial row."""
    if graph.card.task == "anomaly":
        return None
    if graph.card.task == "classify":
        return rng.integers(0, len(graph.card.labels), TRIAL_ROWS)
    return rng.normal(size=(TRIAL_ROWS, *graph.output_shape)).astype(np.float32)


def train(
    graph: TrainableGraph,
    data: Dataset,
    config: TrainingConfig,
    rng: np.random.Generator,
    tick: Callable[[], None] | None = None,
) -> Result:
    """Train in place on the training part, standardised as a site does it; judged before and after on the rest."""
    scale = fit_scale(graph, data)
    x, y = known(graph, *data.part(test=False), normal=True)
    before = judge(graph, data, scale)
    report = fit(graph, scale(x), None if graph.card.task == "anomaly" else y, config, rng, tick)
    return Result(report, before, judge(graph, data, scale))


def fit_scale(graph: TrainableGraph, data: Dataset) -> Scale:
    """The site's standardisation: of everything, but for windows known to be anomalous and for what is judged."""
    x, y = data.part(test=False)
    if not len(x):
        x, y = data.x, data.y
    return standardise.fit(x[y != 1] if graph.card.task == "anomaly" else x, graph.card)


def judge(graph: TrainableGraph, data: Dataset, scale: Scale, everything: bool = False) -> dict[str, float]:
    """Figures of the part that is judged, or of everything."""
    x, y = (data.x, data.y) if everything else data.part(test=True)
    if graph.card.task == "anomaly":
        labelled = bool(len(y) and (y >= 0).any())
        return evaluate(graph, scale(x), y if labelled else None) if len(x) else {}
    x, y = known(graph, x, y, normal=False)
    return evaluate(graph, scale(x), y) if len(x) else {}


def known(graph: TrainableGraph, x: Array, y: Any, normal: bool) -> tuple[Array, Any]:
    """Rows with a label; of an anomaly model (`normal`) those not known to be anomalous."""
    if graph.card.task == "anomaly":
        keep = y != 1 if normal else np.ones(len(y), np.bool_)
    elif graph.card.task == "regress":
        keep = np.isfinite(np.asarray(y, np.float32).reshape(len(y), -1)).all(axis=1)
    else:
        keep = y >= 0
    return x[keep], y[keep]
