# SPDX-License-Identifier: Apache-2.0
"""Tune a release to its site: a little training on the site's own data before it serves. The result is never sent.

What all sites learned together is a better start than one site's own model, and a few small steps from there suit its
machines better than either (local adaptation: Wang et al. 2019, "Federated evaluation of on-device personalization";
Cheng, Chadha & Duchi 2021). Held-back data decides whether the result is used. Pure.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import numpy as np
from fedge_models.graph.trainable import TrainableGraph
from fedge_models.messages.quantize import Floats
from fedge_models.training.config import TrainingConfig
from fedge_models.training.evaluation import row_losses
from fedge_models.training.loop import fit
from numpy.typing import NDArray

from .training import MIN_HELD, Data

RATE = 0.1  # of the learning rate with which updates are made


def tune(
    graph: TrainableGraph,
    start: Floats,
    data: Data,
    held: Data,
    config: TrainingConfig,
    rng: np.random.Generator,
    pause: Callable[[], None] | None = None,
) -> Floats | None:
    """Return the parameters (P,) after `config.epochs` at a tenth of `config.learning_rate` from `start` (P,).

    None where there is no evidence that it helps: too few held-back samples, or their mean loss rose. None also where
    the site lacks a class or a label: the model would unlearn it, and the site's held-back data could not show that.
    """
    if len(held.x) < MIN_HELD or not complete(graph, data.y):
        return None
    before = _loss(graph, start, held)
    graph.set_params(start)
    gentle = msgspec.structs.replace(config, learning_rate=RATE * config.learning_rate, proximal_mu=0.0)
    report = fit(graph, data.x, None if graph.card.task == "anomaly" else data.y, gentle, rng, pause)
    if report.diverged or not report.rows:
        return None
    tuned = graph.params.copy()
    return tuned if _loss(graph, tuned, held) <= before else None


def complete(graph: TrainableGraph, y: NDArray[Any]) -> bool:
    """Whether labels of a site's samples include every class of the model; of several labels, with and without each."""
    if graph.card.task == "multilabel":
        return len(y) > 0 and bool((y.min(axis=0) != y.max(axis=0)).all())
    if graph.card.task != "classify":
        return len(y) > 0
    return len(set(y.tolist())) == len(graph.card.labels)


def _loss(graph: TrainableGraph, params: Floats, held: Data) -> float:
    graph.set_params(params)
    return float(row_losses(graph, held.x, None if graph.card.task == "anomaly" else held.y).mean())
