# SPDX-License-Identifier: Apache-2.0
"""Is a site worse off for joining: what serves there against its own model, under FedAvg and under the default rule."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from fedge_fleet.data.held_back import holding_back
from fedge_fleet.data.problems.problem import Problem
from fedge_fleet.data.site_data import standardised
from fedge_fleet.simulate import baselines
from fedge_fleet.simulate.champions import OWN_MODEL, champions
from fedge_fleet.simulate.config import Config
from fedge_fleet.simulate.loop import SiteModels
from fedge_fleet.simulate.run import Fleet, simulate
from fedge_fleet.simulate.scores import Evaluator
from fedge_models.graph.trainable import TrainableGraph
from numpy.typing import NDArray

Floats = NDArray[np.float64]
DEFAULT = {
    "rule": {"name": "trimmed_mean", "byzantine": 0.3},
    "mixing": {"name": "nearest_neighbour_mixing", "byzantine": 0.3},
    "trust": {},
    "drift_correction": 0.5,
}
HALF_A_PERCENT = 0.005
RULES = ("fedavg", "default")
HEADER = ["set", "rule", "alone", "tuned release", "serves", "own share", "kept by release", "kept", "± over seeds",
          "worst site"]  # fmt: skip


@dataclass
class Scores:
    """Scores by site, a list entry a seed."""

    alone: dict[str, list[float]] = field(default_factory=dict)  # trained alone to its own best budget
    tuned: dict[str, list[float]] = field(default_factory=dict)
    serves: dict[str, list[float]] = field(default_factory=dict)
    shares: list[float] = field(default_factory=list)

    def add(self, name: str, scores: dict[str, float]) -> None:
        """Add one seed's."""
        for site, score in scores.items():
            getattr(self, name).setdefault(site, []).append(score)


def served(problem: Problem, seeds: int, own_model: float = OWN_MODEL) -> dict[str, Scores]:
    """Measure by rule; a part of the training data is held back at each site, and nobody trains on it."""
    problem, found = holding_back(problem), {rule: Scores() for rule in RULES}
    for seed in range(seeds):
        sites = {n: standardised(s, problem.card) for n, s in problem.sites.items()}
        graph = TrainableGraph.load(problem.model(seed))
        start, evaluator = graph.params.copy(), Evaluator(problem, graph, sites)
        best = {n: baselines.alone(graph, start, s, problem.alone, seed) for n, s in sites.items()}
        alone, own = evaluator.sites(best.__getitem__), None
        for rule, scores in found.items():
            graph.set_params(start)
            made = _federation(problem, graph, rule, seed)
            models = champions(graph, start, made, sites, problem.plan, seed, own_model, own)
            own = {n: model.own for n, model in models.items()}
            scores.add("alone", alone)
            scores.add("tuned", evaluator.sites(lambda n, m=models: m[n].tuned))  # type: ignore[misc]  # bound at once
            scores.add("serves", evaluator.sites(lambda n, m=models: m[n].serves))  # type: ignore[misc]
            scores.shares.append(float(np.mean([model.serves.share for model in models.values()])))
    return found


def _federation(problem: Problem, graph: TrainableGraph, rule: str, seed: int) -> SiteModels:
    if rule == "fedavg":
        sites = {n: standardised(s, problem.card) for n, s in problem.sites.items()}
        return baselines.federated(graph, graph.params.copy(), sites, problem.plan, seed)
    config = Config(set=problem.name, sites=len(problem.sites), seed=seed, **DEFAULT)  # type: ignore[arg-type]
    return simulate(config, "benchmark", fleet=Fleet(config, "benchmark", problem), every=10**6).federation


def rows(problem: Problem, found: dict[str, Scores]) -> tuple[list[list[str]], dict[str, float]]:
    """Return the rows of the table and the figures of one set."""
    lines: list[list[str]] = []
    figures: dict[str, float] = {}
    for rule, scores in found.items():
        suffix = "" if rule == "fedavg" else f"_{rule}"
        alone, tuned, serves = (_array(part) for part in (scores.alone, scores.tuned, scores.serves))
        kept = _kept(problem, serves, alone)
        each = [_kept(problem, serves[:, [i]], alone[:, [i]]) for i in range(alone.shape[1])]
        error = float(np.std(each, ddof=1) / len(each) ** 0.5) if len(each) > 1 else float("nan")
        gains = _gains(problem, serves.mean(axis=1), alone.mean(axis=1))
        worst = min(zip(gains, scores.alone, strict=True))
        figures |= {
            f"{problem.name}_sites_kept{suffix}": kept,
            f"{problem.name}_sites_kept_error{suffix}": error,
            f"{problem.name}_sites_kept_by_release{suffix}": _kept(problem, tuned, alone),
            f"{problem.name}_serves{suffix}": float(serves.mean()),
            f"{problem.name}_tuned_held_back{suffix}": float(tuned.mean()),
            f"{problem.name}_alone_held_back": float(alone.mean()),
            f"{problem.name}_own_share{suffix}": float(np.mean(scores.shares)),
        }
        digits = 2 if alone.mean() > 1 else 3
        line = [problem.name, rule, *(f"{part.mean():.{digits}f}" for part in (alone, tuned, serves))]
        line += [f"{np.mean(scores.shares):.2f}", f"{_kept(problem, tuned, alone):.2f}", f"{kept:.2f}", f"{error:.2f}"]
        lines.append([*line, f"{worst[1]} {worst[0]:.3f}"])
    return lines, figures


def _array(scores: dict[str, list[float]]) -> Floats:
    """Scores (sites, seeds)."""
    return np.array([*scores.values()])


def _gains(problem: Problem, ours: Floats, theirs: Floats) -> Floats:
    """Ratios of scores so that above 1 is better."""
    found: Floats = theirs / ours if problem.error else ours / theirs
    return found


def _kept(problem: Problem, ours: Floats, theirs: Floats) -> float:
    """Share of sites whose mean score is at least the other's, to half a percent."""
    return float(np.mean(_gains(problem, ours.mean(axis=1), theirs.mean(axis=1)) >= 1 - HALF_A_PERCENT))
