# SPDX-License-Identifier: Apache-2.0
"""Try a model by hand, with the code that a running gateway uses: what it is, what it costs, what it learns.

Files and output are the command line's part; clock and random generator are passed in.
"""

from __future__ import annotations

import tracemalloc
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np
from fedge_models.errors import DataError
from fedge_models.graph import array_labels
from fedge_models.graph.card import Card, Channel
from fedge_models.graph.channels import shown
from fedge_models.graph.trainable import TrainableGraph
from fedge_models.model import Model
from fedge_models.system.text import counted
from fedge_models.training import objective, standardise
from fedge_models.training.config import TrainingConfig
from fedge_models.training.loop import FitReport, fit
from fedge_models.training.personal import local_tensors

from ..health import rss_mib
from .dataset import Dataset

TRIAL_ROWS = 256
START = {"file": "values of the file", "shared": "median of the other sites' own values, which they send for it"}


class Cost(NamedTuple):
    """What training costs on this board, measured."""

    samples_per_s: float  # each time a sample is trained on
    trunk_ms: float  # once for each new sample; 0 without a trunk
    training_mib: float  # what training allocates beyond model and data
    process_mib: float  # of this whole process, with the model


class Result(NamedTuple):
    """The outcome of one training by hand."""

    report: FitReport
    before: dict[str, float]  # figures of the test part
    after: dict[str, float]


def describe(graph: TrainableGraph) -> dict[str, Any]:
    """Describe the file as plain data."""
    card = graph.card
    return {
        "task": card.task,
        "description": card.description,
        "channels": {c.name: _with_marks(c.unit, _keys(c)) for c in card.channels},
        "window": {"rate_hz": card.window.rate_hz, "length": card.window.length, "hop": card.window.hop},
        **({"derived": _formulas(card)} if card.derive else {}),
        "features": list(card.features),
        **({"input_order": [c.name for c in card.input_channels]} if card.image is None else {}),
        **({"image": msgspec.to_builtins(card.image)} if card.image is not None else {}),
        "labels": list(card.labels),
        **({"label_limits": dict(zip(card.labels, card.limits, strict=True))} if card.task == "multilabel" else {}),
        "targets": {t.name: t.unit for t in card.targets},
        "loss": card.loss,
        "scaling": card.scaling or "site",
        "input": list(graph.input_shape),
        "output": list(graph.output_shape),
        "trunk": _trunk(graph),
        "tail": sorted_counts(graph.operators),
        **({"weights": "drawn, never trained"} if graph.untrained else {}),
        "trainable_parameters": int(graph.params.size),
        "trainable": {t.name: list(t.shape) for t in graph.layout},
        "local": {name: list(shape) for name, shape in local_tensors(graph).items()},
        **({"new_site_starts_from": START[card.local_start]} if card.local else {}),
        "shared": list(graph.shared),
        "constants": list(graph.card.constants),
        "notes": list(graph.notes),
    }


def _formulas(card: Card) -> dict[str, str]:
    """Formula of each derived channel, and what it is where that is not plain."""
    found = {}
    for name, given in card.derive.items():
        window = next(f.window for f in card.formulas if f.name == name)
        channel = Channel(name) if isinstance(given, str) else given.channel(name)
        marks = [*([channel.unit] if channel.unit else []), *(["one number a window"] if window else [])]
        found[name] = _with_marks(shown(given), [*marks, *_keys(channel)])
    return found


def _keys(channel: Channel) -> list[str]:
    """What a channel's keys say of how it enters, in words; nothing where it enters as others do."""
    numbers = {"centre": channel.centre, "scale": channel.scale, "condition": channel.condition}
    said = [f"{key} {value:g}" for key, value in numbers.items() if value is not None]
    return said if channel.input else ["not in the input", *said]


def _with_marks(text: str, marks: Sequence[str]) -> str:
    return f"{text} ({', '.join(marks)})".strip() if marks else text


def sorted_counts(names: Sequence[str]) -> dict[str, int]:
    """Count how often each name occurs, in the order of the names."""
    return dict(sorted(Counter(names).items()))


def _trunk(graph: TrainableGraph) -> dict[str, int]:
    """Operators and size of the part that is frozen and run by ONNX Runtime."""
    if graph.trunk is None:
        return {}
    return {**sorted_counts(graph.trunk.operators), "parameters": graph.trunk.parameters}


def cost(graph: TrainableGraph, batch: int, clock: Callable[[], float], rng: np.random.Generator) -> Cost:
    """Train on random rows for a moment and measure; the parameters are restored."""
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
    """Random targets for the trial rows."""
    if graph.card.task == "anomaly":
        return None
    if graph.card.task == "classify":
        return rng.integers(0, len(graph.card.labels), TRIAL_ROWS)
    if graph.card.task == "multilabel":
        return rng.integers(0, 2, (TRIAL_ROWS, len(graph.card.labels))).astype(np.float32)
    return rng.normal(size=(TRIAL_ROWS, *graph.output_shape)).astype(np.float32)


def train(
    model: Model,
    data: Dataset,
    config: TrainingConfig,
    rng: np.random.Generator,
    pause: Callable[[], None] | None = None,
) -> Result:
    """Train in place on the training part, standardised as a site does it; evaluate before and after on the rest."""
    fit_scale(model, data)
    before = evaluate(model, data)
    report = model.train(*data.part(test=False), config, rng, pause, measured=False)
    return Result(report, before, evaluate(model, data))


def check_targets(path: Path, data: Dataset, graph: TrainableGraph) -> None:
    """Raise DataError for samples with another number of targets than the model gives."""
    try:
        if data.labelled(graph.card).any():
            array_labels.check_targets(data.y, graph.card, graph.output_shape)
    except ValueError as e:
        raise DataError(f"{path}: {e}") from e


def check_labelled(path: Path, data: Dataset, card: Card, training: bool) -> None:
    """Raise DataError when nothing can be learnt from the training part, or judged, because it has no label."""
    found, names = data.labelled(card), "target" if card.task == "regress" else "label"
    if card.task == "anomaly" and training and not (data.y != 1)[~data.test].any():
        raise DataError(f"{path}: every sample to train on is an anomaly; expected some that are normal")
    part = ~data.test if training else data.test if data.marked else np.ones(len(data.x), np.bool_)
    if training and not part.any():
        raise DataError(f"{path}: all {len(data.x)} samples are of the test part; expected some to train on")
    if not (found & part).any():
        count, to_do = int(part.sum()), "train on" if training else "evaluate with"
        why = data.lacking or f"every {names} is empty, or changes within each window"
        raise DataError(f"{path}: none of {count} samples to {to_do} has a {names}: {why}")


def unlabelled(data: Dataset, card: Card) -> str:
    """How many samples cannot be used because they have no label, in words; empty: none."""
    if card.task == "anomaly":
        return f"no sample has a label: each counts as normal ({data.lacking})" if data.lacking else ""
    lost = int((~data.labelled(card)).sum())
    if not lost:
        return ""
    why = "no target" if card.task == "regress" else "no label, or one that changes within"
    to_do = "; write normal where none of the labels holds" if card.task == "multilabel" else ""
    return f"{lost:,} of {counted(len(data.x), 'sample')} not used: {why}{to_do}"


def fit_scale(model: Model, data: Dataset) -> int:
    """Fit the standardisation to the training part, or to everything where that is empty; return its size."""
    x, y = data.part(test=False)
    model.fit_scale(*((x, y) if len(x) else (data.x, data.y)), measured=False)
    return len(x) or len(data.x)


def evaluate(model: Model, data: Dataset) -> dict[str, float]:
    """Return the figures of the test part; empty when no row has a label."""
    return model.evaluate(*data.part(test=True), measured=False)


class Judgement(NamedTuple):
    """What a model is worth on data, and how that was found."""

    figures: dict[str, float]  # empty when no sample has a label
    samples: int  # that were judged
    unlabelled: int  # that could not be judged, because nobody knows their label
    scaled_by: int  # samples to which the standardisation was fitted; 0: it needs none


def judge(model: Model, data: Dataset, scale_from: Dataset, path: Path) -> Judgement:
    """Judge a model by the samples that the data marks for the test, or by all where it marks none.

    scale_from: the standardisation is fitted to its samples that are not marked, or to all where all are; path: its
    file. Raises DataError when all of them are anomalies.
    """
    labels = scale_from.part(test=False)[1] if not scale_from.test.all() else scale_from.y
    if model.card.task == "anomaly" and (labels == 1).all():
        raise DataError(f"{path}: every sample to standardise by is an anomaly; expected some that are normal")
    x, y = data.part(test=True) if data.marked else (data.x, data.y)
    fitted, needed = fit_scale(model, scale_from), standardise.given(model.card) is None
    unlabelled = 0 if model.card.task == "anomaly" else int((~objective.known(model.card.task, y)).sum())
    figures = model.evaluate(x, y, measured=False)
    return Judgement(figures, len(x) - unlabelled, unlabelled, fitted if needed else 0)
