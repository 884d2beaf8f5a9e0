# SPDX-License-Identifier: Apache-2.0
"""A federation on arrays or files of one's own, compared with each site alone and with all data in one place.

The windows, standardisation and training of gateways and the rounds, rules and messages of the aggregator are the real
ones. Networks, disks and clocks are not: see `fedge-fleet simulate`, whose settings are taken here too.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from fedge_agent.learning import dataset
from fedge_models.errors import DataError, ModelError
from fedge_models.graph import array_labels
from fedge_models.graph.array_rows import input_rows
from fedge_models.graph.card_scale import rows_in_card_scale
from fedge_models.graph.trainable import TrainableGraph
from fedge_models.system import settings
from fedge_models.system.floats import wide
from fedge_models.training.config import TrainingConfig
from fedge_models.training.objective import check_labels
from fedge_models.training.outliers import finite_rows
from numpy.typing import ArrayLike, NDArray

from ..data.member import Plan
from ..data.problems.problem import Problem
from ..data.site_data import Windows, pooled
from . import baselines
from .config import Config
from .run import Fleet, Outcome, simulate
from .scores import Evaluator

METRICS = {"anomaly": "auroc", "classify": "macro_f1", "multilabel": "macro_f1", "regress": "rmse"}
HELD_EVERY = 5  # without `test`, the last of so many parts is what the models are judged on
WHERE = "simulate_federation"


@dataclass(frozen=True)
class Site:
    """The data of one site, before standardisation.

    x: (n, *input shape of the model) in the channels' units, or features, as `fedge_models.Model` takes rows; y: (n,)
    class index, 0 or 1 for anomaly, -1 where unknown, or the target; for several targets (n, targets), for multilabel 0
    or 1 (n, labels). test: (n,) whether a row is judged and not trained on; None: the last fifth is.
    """

    x: ArrayLike
    y: ArrayLike
    test: ArrayLike | None = None
    measured: bool | None = None  # whether x holds what is measured, where channels are derived and its shape fits both


@dataclass(frozen=True)
class Comparison:
    """Scores on the test parts, by site, and the model that the federation has learned.

    metric: "auroc", "macro_f1" (more is better) or "rmse" (less is better).
    """

    metric: str
    federated: dict[str, float]  # of honest sites that can be judged
    alone: dict[str, float]  # each site's own model
    central: dict[str, float]  # a model of all data in one place
    quarantined: tuple[str, ...]  # sites that trust has silenced
    weights: NDArray[np.float32]  # (P,) of the last release; `TrainableGraph.load(model).set_params` takes them
    left_out: dict[str, int]  # rows or windows of each site with gaps, across two parts, or without a number


def simulate_federation(
    sites: Mapping[str, Site | Path | str],
    model: bytes | Path | str,
    *,
    rounds: int = 20,
    training: TrainingConfig | None = None,
    seed: int = 0,
    **keys: Any,
) -> Comparison:
    """Run a federation of two sites or more, and compare it.

    sites: arrays, or a CSV or .npz file each, as `fedge-agent train --data` reads them. model: an ONNX file with a
    card, or its bytes. training: of each site, each round. keys: further keys of a simulation, such as
    ``rule={"name": "median"}``, ``trust={"action": "quarantine"}`` or ``hostile=0.3``; the default is FedAvg.

    Raises DataError for data that does not fit the model, ModelError for a model that does not train, ConfigError for
    keys that do not fit.
    """
    body = model if isinstance(model, bytes) else Path(model).read_bytes()
    graph = TrainableGraph.load(body)
    made = {name: _windows(name, site, graph) for name, site in sites.items()}
    windows = {name: found for name, (found, _) in made.items()}
    plan = Plan(rounds, training or TrainingConfig())
    problem = Problem(WHERE, windows, graph.card, lambda _: body, METRICS[graph.card.task], plan, plan, plan)
    table = {**keys, "sites": len(windows), "rounds": rounds, "seed": seed}
    fleet = Fleet(settings.convert(table, Config, WHERE), WHERE, problem)
    outcome = simulate(settings.convert(table, Config, WHERE), WHERE, fleet=fleet, every=rounds)
    left_out = {name: count for name, (_, count) in made.items()}
    return _compared(fleet, plan, seed, outcome, left_out)


def _compared(fleet: Fleet, plan: Plan, seed: int, outcome: Outcome, left_out: dict[str, int]) -> Comparison:
    graph, evaluator = fleet.graph, Evaluator(fleet.problem, fleet.graph, fleet.sites)
    own = {n: baselines.alone(graph, fleet.start, s, plan, seed) for n, s in fleet.sites.items()}
    central = baselines.alone(graph, fleet.start, pooled(fleet.sites), plan, seed)
    return Comparison(
        fleet.problem.metric,
        outcome.scores,
        evaluator.sites(lambda name: own[name]),
        evaluator.sites(lambda _: central),
        outcome.quarantined,
        outcome.federation.params,
        left_out,
    )


def _windows(name: str, site: Site | Path | str, graph: TrainableGraph) -> tuple[Windows, int]:
    """A site as gateways see it, and how many of its windows are left out. Raises DataError."""
    left_out = 0
    if not isinstance(site, Site):
        read = dataset.load(Path(site), graph.card, graph.input_shape)
        site, left_out = Site(read.x, read.y, read.test, measured=False), read.left_out + read.undefined
    try:
        x, y, test = _arrays(site, graph)
    except (ValueError, ModelError) as e:
        raise DataError(f"site {name!r}: {e}") from e
    keep = finite_rows(x)
    if not keep.any():
        raise DataError(f"site {name!r}: none of {len(x)} rows of x holds finite values only")
    x = rows_in_card_scale(x[keep], graph.card)
    return Windows(x, y[keep], test[keep], np.zeros(len(x), np.bool_)), left_out + int((~keep).sum())


def _arrays(site: Site, graph: TrainableGraph) -> tuple[NDArray[Any], NDArray[Any], NDArray[np.bool_]]:
    """x as rows of the model, their labels, and which are of the test. Raises ValueError, ModelError."""
    x, card = np.asarray(site.x), graph.card
    array_labels.check_numbers(x, "x")
    x = input_rows(wide(x), card, graph.input_shape, site.measured)
    y = array_labels.labels(np.asarray(site.y), len(x), card)
    array_labels.check_targets(y, card, graph.output_shape)
    if card.task == "multilabel":
        check_labels(card, y)
    test = _last_part(len(x)) if site.test is None else array_labels.marks(np.asarray(site.test), len(x))
    return x, y.astype(np.float32) if card.task in ("multilabel", "regress") else y, test


def _last_part(rows: int) -> NDArray[np.bool_]:
    return np.arange(rows) >= rows - rows // HELD_EVERY
