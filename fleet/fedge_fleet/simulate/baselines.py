# SPDX-License-Identifier: Apache-2.0
"""Baselines without a federation's messages, computed with the code that gateways run.

Windows, features, standardisation, training and the int8 coding are the gateway's own. The demo draws its comparison
lines from here (each site alone, everything pooled), `benchmarks/accuracy.py` its tables.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from threading import Event

import msgspec
import numpy as np
from fedge_agent.learning.tuning import RATE, complete
from fedge_aggregator.federation.publish import FIRST_SPREAD, difference_steps, next_grid
from fedge_aggregator.rounds import start_value
from fedge_aggregator.rounds.engine.update_rows import MemoryRows
from fedge_aggregator.rounds.round import RoundConfig
from fedge_aggregator.rounds.server_optimizers import first_state
from fedge_models.graph.trainable import TrainableGraph
from fedge_models.messages.quantize import LIMIT, dequantize, expand, quantize
from fedge_models.messages.release import apply_difference
from fedge_models.training.evaluation import evaluate
from fedge_models.training.loop import fit
from fedge_models.training.objective import known

from ..data.member import Base, Member, Plan, Sent, train
from ..data.site_data import Floats, Windows, trainable
from .loop import Loop, SiteModels


def score(graph: TrainableGraph, params: Floats, site: Windows) -> float:
    """Score the test part: AUROC (anomaly), macro-F1 (classify, multilabel) or RMSE (regress)."""
    x, y = site.part(test=True)
    if graph.card.task != "regress":
        keep = known(graph.card.task, y)
        x, y = x[keep], y[keep]
    graph.set_params(params)
    metrics = {"anomaly": "auroc", "classify": "macro_f1", "multilabel": "macro_f1", "regress": "rmse"}
    return evaluate(graph, x, y)[metrics[graph.card.task]]


def alone(
    graph: TrainableGraph, start: Floats, site: Windows, plan: Plan, seed: int, stop: Event | None = None
) -> Floats:
    """Train all rounds of a plan on one site, or on the pool, without a proximal term; return the parameters (P,).

    `stop`: once it is set, no further round begins.
    """
    params, rng = start, np.random.default_rng(seed)
    x, y = trainable(site, graph.card)
    for version in range(1, plan.rounds + 1):
        if stop is not None and stop.is_set():
            break
        graph.set_params(params)
        train(graph, x, y, plan, version, rng)
        params = graph.params.copy()
    return params


def federated(
    graph: TrainableGraph,
    start: Floats,
    sites: Mapping[str, Windows],
    plan: Plan,
    seed: int,
    look: Callable[[int, SiteModels], None] | None = None,
) -> SiteModels:
    """Run FedAvg over the sites with the real int8 coding of updates and releases, error feedback and grid in the loop.

    `look` is shown each release with its version.
    """
    rng = np.random.default_rng(seed)
    members = {n: Member(*trainable(site, graph.card), np.zeros_like(start), rng) for n, site in sites.items()}
    loop = Loop(graph, members, plan, Plain(graph, start, plan), RoundConfig(len(sites), math.inf), math.inf)
    return loop.run(look)


def tuned(
    graph: TrainableGraph, made: SiteModels, sites: Mapping[str, Windows], plan: Plan, seed: int
) -> dict[str, Floats]:
    """Return the model that serves at each site: the release after fine tuning on the site's own data.

    Here all of the training part is trained on; a gateway holds some back, and goes without where that shows no gain.
    """
    rng, models = np.random.default_rng(seed), {}
    for name, site in sites.items():
        models[name] = made.at(name)
        x, y = trainable(site, graph.card)
        if not complete(graph, y):
            continue
        graph.set_params(models[name])
        rate = RATE * plan.training.learning_rate
        gentle = msgspec.structs.replace(plan.training, epochs=plan.fine_tune, learning_rate=rate)
        fit(graph, x, None if graph.card.task == "anomaly" else y, gentle, rng)
        models[name] = graph.params.copy()
    return models


class Plain:
    """An aggregator that averages exactly by sample counts and takes a step; it signs and refuses nothing."""

    def __init__(self, graph: TrainableGraph, start: Floats, plan: Plan) -> None:
        self._sizes, self._cap, self._optimizer = graph.sizes, plan.max_samples, plan.server
        self._state = first_state(plan.server, len(start))
        self._local = start_value.local_of(graph.card, [t.name for t in graph.layout], graph.sizes)
        self._base = Base(1, start.copy(), np.full(len(graph.sizes), FIRST_SPREAD / LIMIT, np.float32))
        self._kept = np.zeros_like(start)
        self._updates: list[Sent] = []

    def base(self) -> Base:
        """The newest release."""
        return self._base

    def minimum(self) -> int:
        """One update is enough."""
        return 1

    def admit(self, node: str, sent: Sent, base: Base) -> None:
        """Admit every update."""
        self._updates.append(sent)

    def close(self, now: float) -> None:
        """Take the optimiser's step along the mean, coded as releases are."""
        base, sizes, grid = self._base, self._sizes, expand(self._base.steps, self._sizes)
        total, weight = np.zeros(len(base.weights)), 0
        for sent in self._updates:
            share = min(sent.samples, self._cap)
            total += share * dequantize(sent.codes, grid).astype(np.float64)
            weight += share
        mean = (total / weight).astype(np.float32)
        if self._local is not None:
            mean[self._local.mask] = 0
        step, self._state = self._optimizer.step(self._state, mean)
        if self._local is not None:
            step[self._local.mask] = self._start(self._local) * grid[self._local.mask]
        wanted = step + self._kept
        coarse = difference_steps(wanted, sizes)
        codes = quantize(wanted, expand(coarse, sizes))
        self._kept = wanted - dequantize(codes, expand(coarse, sizes))
        weights = apply_difference(base.weights, codes, coarse, sizes)
        spreads = start_value.grid_spreads(self._local, [u.spread for u in self._updates], base.steps)
        self._base = Base(base.version + 1, weights, next_grid(base.steps, spreads))
        self._updates = []

    def _start(self, local: start_value.Local) -> Floats:
        """How what a new site starts from follows the sites, in steps of the grid."""
        rows, spreads = MemoryRows([u.codes for u in self._updates]), [u.spread for u in self._updates]
        return start_value.follow(local, rows, spreads, [True] * len(spreads), hostile=0).step
