# SPDX-License-Identifier: Apache-2.0
"""What a label is worth when a gateway chooses which windows to ask about, against asking about any.

A site joins late: the others' federation gives it a release, and it has windows but no label. It asks about `BATCH`
windows at a time, tunes the release and trains its own model with what it knows by then, and both decide together
(`learning.champion`). Of an anomaly model all windows count as normal until an answer says that one is a fault.
Everything is of the training part of each set: a part of it, whole units where the set names some, is held back, asked
about by nobody, and judged. Each site in turn is the one that joins. Figures are means over sites and seeds.
`--quick`: one seed, fewer rounds and two sets; other figures.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from _common import arguments, finish, table  # isort: skip  # sets the BLAS threads first

import msgspec
import numpy as np
from fedge_agent.learning import label_worth
from fedge_agent.learning.champion import choose
from fedge_agent.learning.label_worth import Worth
from fedge_agent.learning.mixture import Blend, outputs
from fedge_agent.learning.own_model import improved
from fedge_agent.learning.training import Data, usable
from fedge_agent.learning.tuning import tune
from fedge_fleet.data.held_back import holding_back
from fedge_fleet.data.problems.problem import Problem
from fedge_fleet.data.problems.registry import SETS
from fedge_fleet.data.site_data import Windows, standardised
from fedge_fleet.simulate import baselines
from fedge_models.graph.trainable import TrainableGraph
from fedge_models.training.evaluation import figures
from numpy.typing import NDArray

SEEDS = {"ai4i": 6, "skab": 6, "fan": 6, "elpv": 3}  # pictures take long
FIRST = 64  # labels of a classifier, at random: `training.min_samples`, below which a gateway does not train
BATCH, BATCHES = 10, 4  # answers before the models are trained again
EPOCHS = 30  # of each training of the own model
Picks = Callable[[Worth, np.random.Generator], NDArray[np.float64]]
RULES: Mapping[str, Picks] = {
    "random": lambda w, rng: rng.random(len(w.novel)),
    "uncertain": lambda w, _: w.uncertain,
    "novel": lambda w, _: w.novel,
    "disagreeing": lambda w, _: w.disagreeing,
    "largest rank": lambda w, _: np.max([_rank(p) for p in w], axis=0),
    "sum of ranks": lambda w, _: np.sum([_rank(p) for p in w], axis=0),
    "uncertain and novel": lambda w, _: _rank(w.uncertain) + _rank(w.novel),
    "the rule": lambda w, _: w.total(),
}


def _rank(part: NDArray[np.float64]) -> NDArray[np.float64]:
    return part.argsort().argsort() / len(part)


@dataclass
class Site:
    """A site that joins: its windows, what it knows of them, and what is judged."""

    problem: Problem
    graph: TrainableGraph
    start: NDArray[np.float32]
    release: NDArray[np.float32]
    windows: Windows
    known: NDArray[np.bool_]  # (n,) of the windows that it may ask about

    @property
    def pool(self) -> NDArray[np.bool_]:
        """Windows (n,) that it may ask about."""
        found: NDArray[np.bool_] = ~self.windows.test & ~self.windows.held & (self.windows.y >= 0)
        return found

    def data(self) -> tuple[Data, Data]:
        """What it trains on, and holds back of that to choose by: every fifth answer; of an anomaly model, windows."""
        pool, task = self.pool, self.graph.card.task
        x, y = self.windows.x[pool], self.windows.y[pool]
        y = np.where(self.known, y, -1)
        keep = np.flatnonzero(y >= 0) if task == "classify" else np.arange(len(y))
        held = np.arange(len(keep)) % 5 == 4
        parts = ((keep[~held]), (keep[held]))
        train, back = (usable(task, Data(x[p], y[p]), labelled=False) for p in parts)
        return train, back

    def trained(self, seed: int) -> Blend:
        """What serves with the labels that are known."""
        data, held = self.data()
        rng, how = np.random.default_rng([seed, int(self.known.sum())]), self.problem.plan.training
        how = msgspec.structs.replace(how, epochs=EPOCHS)
        own = improved(self.graph, self.start, data, held, how, rng, first=True) if len(data.x) > 1 else None
        gentle = msgspec.structs.replace(how, epochs=self.problem.plan.fine_tune)
        tuned = tune(self.graph, self.release, data, held, gentle, rng)
        return choose(self.graph, self.release if tuned is None else tuned, own, data, held)

    def worth(self, blend: Blend) -> Worth:
        """What each window of the pool is worth."""
        x, card = self.windows.x[self.pool], self.graph.card
        mixed = blend.predict(x)
        own = None if blend.own is None else outputs(self.graph, blend.own, x)
        release, limit = outputs(self.graph, blend.release, x), np.inf
        gives = [label_worth.says(card, part, x) for part in (mixed, release)]
        if card.task == "anomaly":
            limit = float(np.quantile(gives[0], card.threshold_quantile))
        mine = None if own is None else label_worth.says(card, own, x)
        return Worth(
            label_worth.uncertain(card, gives[0], limit),
            label_worth.novel(x, x[self.known]),
            label_worth.disagreeing(card, mine, gives[1]),
        )

    def score(self, blend: Blend) -> float:
        """The score of what serves on the part that is held back."""
        keep = self.windows.held & (self.windows.y >= 0)
        x, y = self.windows.x[keep], self.windows.y[keep]
        found = figures(self.graph, blend.predict(x), x, y)
        return float(found.get(self.problem.metric, np.nan))

    def ask(self, blend: Blend, rule: Picks, rng: np.random.Generator) -> None:
        """Learn the labels of a batch of windows; each one counts as known for the choice of the next."""
        worth, x = self.worth(blend), self.windows.x[self.pool]
        for _ in range(BATCH):
            ranked = np.where(self.known, -np.inf, rule(worth, rng))
            best = np.flatnonzero(ranked == ranked.max())
            self.known[best[rng.integers(len(best))]] = True
            worth = worth._replace(novel=label_worth.novel(x, x[self.known]))


def measure(problem: Problem, seed: int, quick: bool) -> dict[str, list[list[float]]]:
    """Return for each rule the scores by site after 0, 5, 10 … labels; and with all labels under "all labels"."""
    problem = holding_back(problem)
    sites = {n: standardised(s, problem.card) for n, s in problem.sites.items()}
    graph = TrainableGraph.load(problem.model(seed))
    start = graph.params.copy()
    plan = replace(problem.plan, rounds=4) if quick else problem.plan
    found: dict[str, list[list[float]]] = {name: [] for name in (*RULES, "all labels")}
    for name, windows in sites.items():
        graph.set_params(start)
        others = {n: s for n, s in sites.items() if n != name}
        release = baselines.federated(graph, start, others, plan, seed).at(name)
        for rule, picks in RULES.items():
            site = Site(problem, graph, start, release, windows, np.zeros(0, np.bool_))
            site.known = np.zeros(int(site.pool.sum()), np.bool_)
            rng, scores = np.random.default_rng([seed, 7]), []
            if graph.card.task != "anomaly":
                site.known[rng.permutation(len(site.known))[:FIRST]] = True
            for batch in range(BATCHES + 1):
                blend = site.trained(seed)
                scores.append(site.score(blend))
                if batch < BATCHES:
                    site.ask(blend, picks, rng)
            found[rule].append(scores)
        site.known[:] = True
        found["all labels"].append([site.score(site.trained(seed))])
    return found


def summary(name: str, runs: list[dict[str, list[list[float]]]]) -> tuple[list[list[str]], dict[str, float]]:
    """Return the rows of a set, and its figures."""
    rows, made = [], {}
    for rule in (*RULES, "all labels"):
        scores = np.array([run[rule] for run in runs])  # (seeds, sites, steps)
        each = np.nanmean(scores, axis=1)
        mean, key = each.mean(axis=0), rule.removeprefix("the ").replace(" ", "_")
        error = each.std(axis=0, ddof=1) / len(each) ** 0.5 if len(each) > 1 else np.full(len(mean), np.nan)
        if len(mean) == 1:
            rows.append([name, rule, "", "", "", f"{mean[0]:.3f}", ""])
            made[f"{name}_all_labels"] = float(mean[0])
            continue
        rows.append([name, rule, *(f"{mean[i]:.3f}" for i in (0, 1, 2, 4)), f"{error[4]:.3f}"])
        made |= {f"{name}_{key}_{BATCH * i}": float(mean[i]) for i in (0, 1, 2, 4)}
        made[f"{name}_{key}_error"] = float(error[4])
    return rows, made


def _more(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--sets", nargs="+", choices=SEEDS, default=[*SEEDS], help="the sets")
    parser.add_argument("--seeds", type=int, help="seeds of each set; default: six, of pictures three")


def main() -> None:
    """Measure all sets."""
    args = arguments(str(__doc__).partition("\n")[0], _more, data=True)
    rows: list[list[str]] = []
    found: dict[str, float] = {}
    for name in ["ai4i", "skab"] if args.quick else args.sets:
        problem = SETS[name](args.data)
        seeds = 1 if args.quick else args.seeds or SEEDS[name]
        more, made = summary(name, [measure(problem, seed, args.quick) for seed in range(seeds)])
        rows, found = [*rows, *more], {**found, **made}
        table(HEADER, more)
    if rows and not args.json:
        print()
    finish("labels", found, args.json)


HEADER = ["set", "asked about", "before", "10 labels", "20 labels", "40 labels", "± over seeds"]

if __name__ == "__main__":
    main()
