# SPDX-License-Identifier: Apache-2.0
"""How often bounds of estimates hold for a unit with no data yet: the next cell of a bench, the next engine.

What serves at a site is the tuned release with the site's own model, as a gateway makes them. Its bounds come from the
units that the set's validation cut holds back (a cell a bench, every fifth engine) and from the median of what the
sites report. Beside them bounds for the same units, from blocks within the units that are learnt from, as they are
where no unit is held back.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from fedge_agent.learning.intervals import (
    BEFORE,
    NEW,
    REPORTED,
    SAME,
    Intervals,
    intervals,
    of_other_sites,
    reported,
)
from fedge_agent.learning.training import Data
from fedge_agent.samples.units import Summary
from fedge_fleet.data.held_back import holding_back
from fedge_fleet.data.problems.problem import Problem
from fedge_fleet.data.site_data import Windows, standardised
from fedge_fleet.simulate import baselines
from fedge_fleet.simulate.champions import Champion, champions
from fedge_models.graph.card import Card
from fedge_models.graph.trainable import TrainableGraph
from fedge_models.training import objective
from numpy.typing import NDArray

CONFIDENCE = 0.9
BLOCK = 10  # rows
ROWS_OF_A_UNIT = {"cmapss": 4}  # held-back rows; elsewhere a site holds one unit back
HEADER = ["set", "bounds hold for", "sites", "coverage of new units", "least site", "mean width", "unit"]


class Covered(NamedTuple):
    """What the bounds of one site hold of its test units."""

    share: float
    width: float


def measure(problem: Problem, seeds: int) -> dict[str, list[Covered]]:
    """Return, for bounds of new units and of the same ones, what they hold at each site and seed."""
    return {
        NEW: [found for seed in range(seeds) for found in _covered_by(holding_back(problem), seed, whole=True)],
        SAME: [found for seed in range(seeds) for found in _covered_by(_by_blocks(problem), seed, whole=False)],
    }


def _by_blocks(problem: Problem) -> Problem:
    """Hold back every fifth block of rows within the units that are learnt from, as gateways did."""
    sites = {}
    for name, site in problem.sites.items():
        block = np.arange(len(site.test)) // BLOCK % 5 == 4
        sites[name] = replace(site, held=block & ~site.test)
    return replace(problem, sites=sites)


def _covered_by(problem: Problem, seed: int, whole: bool) -> list[Covered]:
    """What the bounds at each site hold of its test units; whole: what is held back are units."""
    sites = {n: standardised(s, problem.card) for n, s in problem.sites.items()}
    graph = TrainableGraph.load(problem.model(seed))
    start = graph.params.copy()
    made = baselines.federated(graph, start, sites, problem.plan, seed)
    models = champions(graph, start, made, sites, problem.plan, seed)
    bounds = _bounds(problem, sites, models, whole)
    return [
        _covered(problem.card, models[name], sites[name], bounds[name])
        for name in sites
        if bounds[name].holds_for  # a bench with fewer than 19 rows held back has none
    ]


def _bounds(
    problem: Problem, sites: Mapping[str, Windows], models: Mapping[str, Champion], whole: bool
) -> dict[str, Intervals]:
    """The intervals of each site; with units, by the median of what the sites report, too."""
    held = {name: _held(problem, name, site, whole) for name, site in sites.items()}
    alone = {name: _made(models[name], data, {}, whole) for name, data in held.items()}
    claims = [r for name in sites if (r := reported(alone[name], problem.card.targets))]
    if not claims:
        return alone
    figures = {BEFORE: float(np.median([claim[REPORTED] for claim in claims])), "nodes": float(len(claims))}
    others = of_other_sites(problem.card, figures)
    return {name: _made(models[name], data, others, whole) for name, data in held.items()}


def _made(model: Champion, held: Data, others: Mapping[str, float], whole: bool) -> Intervals:
    count = len(np.unique(held.units)) if whole else 0
    found = intervals(model.serves, held, Summary("run", count, count), CONFIDENCE, others)
    assert found is not None
    return found


def _held(problem: Problem, name: str, site: Windows, whole: bool) -> Data:
    """The held-back units of a site, or blocks. Of a site with one unit there is none, and its blocks are no unit."""
    rows = np.flatnonzero(site.held & problem.validation[name] if whole else site.held)
    units = np.arange(len(rows)) // ROWS_OF_A_UNIT.get(problem.name, len(rows) or 1)
    return Data(site.x[rows], site.y[rows], units=units.astype(np.int64))


def _covered(card: Card, model: Champion, site: Windows, bounds: Intervals) -> Covered:
    x, y = site.part(test=True)
    estimates = objective.unscaled(card, model.serves.predict(x)).ravel()
    low, high = bounds.margins[card.targets[0].name]
    truth: NDArray[np.float64] = objective.possible(card, y.reshape(-1, 1)).ravel()
    within = (truth >= estimates + low) & (truth <= estimates + high)
    return Covered(float(within.mean()), high - low)


def rows(problem: Problem, seeds: int) -> tuple[list[list[str]], dict[str, float]]:
    """Return the rows of the table and the figures of one set."""
    lines: list[list[str]] = []
    figures: dict[str, float] = {}
    for kind, covered in measure(problem, seeds).items():
        name = f"{problem.name}_{kind.replace(' ', '_')}"
        shares, widths = ([c[i] for c in covered] for i in (0, 1))
        figures |= {
            f"interval_coverage_{name}": float(np.mean(shares)),
            f"interval_width_{name}": float(np.mean(widths)),
        }
        line = [problem.name, kind, str(len(covered)), f"{np.mean(shares):.3f}", f"{min(shares):.2f}"]
        lines.append([*line, f"{np.mean(widths):.3g}", problem.card.targets[0].unit])
    return lines, figures
