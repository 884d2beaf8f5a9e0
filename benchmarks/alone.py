# SPDX-License-Identifier: Apache-2.0
"""A gateway without an aggregator: does a model file that was trained elsewhere get worse where it learns on alone?

Each site in turn gets a file that was trained on the data of all others, and learns from it alone (`own_model`,
held-back units of its own). What serves is compared with the file as it was. Once with the rule of gateways for a
trained file (*guarded*: the own model counts only where the mean clearly explains held-back units better), once with
the rule for a release (*mean*: in doubt it counts a half); with all of the site's data, and with a tenth of it.
`starter`: the same from untrained weights, with the rule that an untrained file has. `--quick`: one seed and fewer
rounds; other figures.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass, field, replace

from _common import arguments, finish, table  # isort: skip  # sets the BLAS threads first

import numpy as np
from fedge_agent.learning.champion import choose
from fedge_agent.learning.mixture import Blend
from fedge_agent.learning.training import Data, usable
from fedge_fleet.data.held_back import holding_back
from fedge_fleet.data.problems.problem import Problem
from fedge_fleet.data.problems.registry import SETS
from fedge_fleet.data.site_data import Floats, Windows, pooled, standardised
from fedge_fleet.simulate import baselines, champions
from fedge_fleet.simulate.scores import Evaluator
from fedge_models.graph.trainable import TrainableGraph

SEEDS = {"ai4i": 6, "skab": 6, "fan": 6, "liion": 6}  # of the others one run takes long
FEW = 10  # one window in so many
WORSE = 0.01  # of the file's score
SERVES = ("file", "guarded", "mean", "starter", "starter serves")
HEADER = ["set", "data", *SERVES, "guarded worse", "mean worse", "guarded worst", "mean worst"]


@dataclass
class Scores:
    """Scores by what serves, of each site and seed."""

    of: dict[str, list[float]] = field(default_factory=lambda: {name: [] for name in SERVES})


def measure(problem: Problem, seed: int, few: bool, found: Scores) -> None:
    """Add the scores of one seed."""
    sites = {n: standardised(s, problem.card) for n, s in problem.sites.items()}
    graph = TrainableGraph.load(problem.model(seed))
    start = graph.params.copy()
    for name, whole in sites.items():
        others = pooled({n: s for n, s in sites.items() if n != name})
        file = baselines.alone(graph, start, others, problem.central, seed)
        site = _few(whole, seed) if few else whole
        served = _served(graph, start, file, site, problem, seed)
        evaluator = Evaluator(problem, graph, {name: whole})
        for what, model in served.items():
            found.of[what] += evaluator.sites(lambda _, m=model: m).values()  # type: ignore[misc]  # bound at once


def _served(
    graph: TrainableGraph, start: Floats, file: Floats, site: Windows, problem: Problem, seed: int
) -> dict[str, Floats | Blend]:
    data, held = (_data(site, graph, part) for part in (False, True))
    own = champions.alone(graph, file, site, problem.plan, seed, untrained=False)
    fresh = champions.alone(graph, start, site, problem.plan, seed)
    return {
        "file": file,
        "guarded": choose(graph, file, own, data, held, guarded=True),
        "mean": choose(graph, file, own, data, held),
        "starter": start,
        "starter serves": choose(graph, start, fresh, data, held),
    }


def _data(site: Windows, graph: TrainableGraph, held: bool) -> Data:
    keep = ~site.test & (site.held == held)
    return usable(graph.card.task, Data(site.x[keep], site.y[keep]), labelled=True)


def _few(site: Windows, seed: int) -> Windows:
    """The site with a part of its windows to learn from, and of those that are held back."""
    keep = np.random.default_rng([seed, 9]).random(len(site.y)) < 1 / FEW
    return Windows(site.x[keep], site.y[keep], site.test[keep], site.held[keep])


def row(problem: Problem, few: bool, found: Scores) -> tuple[list[str], dict[str, float]]:
    """Return a row of the table, and its figures."""
    of = {name: np.array(scores) for name, scores in found.of.items()}
    gains = {n: (of["file"] / of[n] if problem.error else of[n] / of["file"]) for n in ("guarded", "mean")}
    key = f"{problem.name}_few" if few else problem.name
    figures = {f"{key}_{name.replace(' ', '_')}": float(scores.mean()) for name, scores in of.items()}
    for name, gain in gains.items():
        figures |= {f"{key}_{name}_worse": float((gain < 1 - WORSE).mean()), f"{key}_{name}_worst": float(gain.min())}
    digits = 2 if of["file"].mean() > 1 else 3
    line = [problem.name, f"one in {FEW}" if few else "all", *(f"{of[n].mean():.{digits}f}" for n in SERVES)]
    line += [f"{(gain < 1 - WORSE).mean():.2f}" for gain in gains.values()]
    return [*line, *(f"{gain.min():.3f}" for gain in gains.values())], figures


def _more(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--set", action="append", choices=list(SEEDS), help="only this set; may be repeated")


def main() -> None:
    """Print the table."""
    args = arguments(__doc__ or "", _more, data=True)
    rows, figures = [], dict[str, float]()
    for name in args.set or SEEDS:
        problem = holding_back(SETS[name](args.data))
        if args.quick:
            problem = replace(problem, plan=replace(problem.plan, rounds=4), central=replace(problem.central, rounds=4))
        for few in (False, True):
            found = Scores()
            for seed in range(1 if args.quick else SEEDS[name]):
                measure(problem, seed, few, found)
            line, more = row(problem, few, found)
            rows.append(line)
            figures |= more
    table(HEADER, rows)
    finish("alone", figures, args.json)


if __name__ == "__main__":
    main()
