# SPDX-License-Identifier: Apache-2.0
"""Federated against central and each site alone on nine industrial data sets, the real int8 coding in the loop.

Splits are those of the data's README (`data.problems` says what each set is). *own*: a site's own model on its
own test part; *everywhere*: on everyone's; *tuned*: the federated model as it serves at a site, after two gentle epochs
on its data; *central*: all data in one place, no coding, trained to its own best budget. Means over the seeds.
`--validate` judges on a cut of the training part instead (by which rates, rounds and sizes were compared), `--ablation`
there compares ways to federate. `--serving` measures only what serves at sites: the tuned release with the site's own
model (`own_model`), against a model trained there alone to its own best budget; a part of the training data, whole
units where the set names some, is held back and trained on by nobody. *kept*: share of sites whose mean score over the
seeds is at least that of the model alone, to half a percent. `--quick`: one seed, half of the rounds, other figures.

For tables of others: `skab_f1`, `skab_far`, `skab_mar` second by second (`_points`), and of classifiers the accuracy at
a probability of one half, every test row once (`elpv_accuracy`: what serves, by the tuned release).
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace

from _common import arguments, finish, table  # isort: skip  # sets the BLAS threads first
import _points  # isort: skip
import _serving  # isort: skip

import msgspec
import numpy as np
from fedge_fleet.data.member import Plan
from fedge_fleet.data.problems.problem import Problem
from fedge_fleet.data.problems.registry import SETS
from fedge_fleet.data.site_data import Floats, Windows, pooled, standardised
from fedge_fleet.simulate import baselines
from fedge_fleet.simulate.scores import Evaluator
from fedge_models.graph.trainable import TrainableGraph

SEEDS = 3
SEEDS_OF_SERVING = {"xsdd": 3, "elpv": 3, "cmapss": 3}  # a run takes long; of the others
MOST_SEEDS = 6
Scores = dict[str, float]


def measure(problem: Problem, seed: int) -> dict[str, Scores]:
    """Measure one seed: {"": overall scores, site: {"own": …, "tuned": …}}."""
    sites = {n: standardised(s, problem.card) for n, s in problem.sites.items()}
    if not problem.unseen:
        return _measure(problem, sites, sites, seed)
    folds = [_measure(problem, others, {name: only}, seed) for name, others, only in _left_out(sites)]
    merged = {key: value for fold in folds for key, value in fold.items() if key}
    return {"": {k: float(np.mean([f[""][k] for f in folds])) for k in folds[0][""]}, **merged}


def _left_out(sites: dict[str, Windows]) -> Iterator[tuple[str, dict[str, Windows], Windows]]:
    """Yield each site in turn as the test part, with all others as training sites."""
    for name, site in sites.items():
        yield name, {n: s for n, s in sites.items() if n != name}, replace(site, test=np.ones_like(site.test))


def _measure(
    problem: Problem, sites: dict[str, Windows], judged: Mapping[str, Windows], seed: int
) -> dict[str, Scores]:
    graph = TrainableGraph.load(problem.model(seed))
    start, evaluator = graph.params.copy(), Evaluator(problem, graph, judged)
    own = {n: baselines.alone(graph, start, s, problem.alone, seed) for n, s in sites.items()}
    fed = baselines.federated(graph, start, sites, problem.plan, seed)
    central = baselines.alone(graph, start, pooled(sites), problem.central, seed)
    everywhere = [evaluator.overall(lambda _, p=p: p) for p in own.values()]  # type: ignore[misc]  # bound at once
    strange = problem.unseen  # nobody's own data is judged: what a plant gets there from another's own model
    alone = {n: _mean_of(evaluator, own, n) for n in judged} if strange else evaluator.sites(lambda n: own[n])
    tuned = None if strange else baselines.tuned(graph, fed, sites, problem.plan, seed)
    serves = fed.at if tuned is None else tuned.__getitem__
    together = evaluator.sites(serves)
    overall = {
        "own": float(np.mean(everywhere)) if strange else evaluator.overall(lambda n: own[n]),
        "own_everywhere": float(np.mean(everywhere)),
        "federated": evaluator.overall(fed.at),
        "tuned": evaluator.overall(serves),
        "central": evaluator.overall(lambda _: central),
    }
    if problem.metric == "average_precision":
        models = {"own": lambda n: own[n], "federated": fed.at, "central": lambda _: central}
        overall |= {f"{k}_f1": evaluator.f1(at) for k, at in models.items()}
    if problem.card.task == "classify" and not strange:
        at_half = {"own_": own.__getitem__, "federated_": fed.at, "central_": lambda _: central, "": serves}
        overall |= {f"{k}accuracy": evaluator.accuracy(at) for k, at in at_half.items()}
    return {"": overall, **{n: {"own": alone[n], "tuned": together[n]} for n in together}}


def _mean_of(evaluator: Evaluator, own: Mapping[str, Floats], site: str) -> float:
    return float(np.mean([evaluator.sites(lambda _, p=p: p)[site] for p in own.values()]))  # type: ignore[misc]


def summary(problem: Problem, seeds: int) -> tuple[list[str], Scores]:
    """Return a row of the table and the figures of one set."""
    runs = [measure(problem, seed) for seed in range(seeds)]
    mean = {part: {k: float(np.mean([r[part][k] for r in runs])) for k in runs[0][part]} for part in runs[0]}
    overall, name = mean[""], problem.name
    gains = {s: _ratio(problem, m["tuned"], m["own"]) for s, m in mean.items() if s}
    figures = {f"{name}_{k}": v for k, v in overall.items()}
    figures[f"{name}_fed_vs_central"] = _ratio(problem, overall["federated"], overall["central"])
    figures[f"{name}_fed_vs_local"] = _ratio(problem, overall["tuned"], overall["own"])
    figures |= {f"{name}_{site}_gain": gain for site, gain in gains.items()} if len(gains) < 10 else {}
    if gains:  # not where every site has a single class: nothing is to be judged there
        figures[f"{name}_worst_site_gain"] = min(gains.values())
    digits = 2 if overall["central"] > 1 else 3
    row = [name, str(len(problem.sites)), problem.metric, *(f"{overall[k]:.{digits}f}" for k in COLUMNS)]
    row += [f"{figures[f'{name}_fed_vs_{k}']:.3f}" for k in ("central", "local")]
    worst = min(gains, key=lambda s: gains[s], default=None)
    least = "" if worst is None else f"{worst} {gains[worst]:.3f}"
    return [*row, f"{sum(g >= 0.995 for g in gains.values())}/{len(gains)}", least], figures


COLUMNS = ("own", "own_everywhere", "federated", "tuned", "central")
HEADER = ["set", "sites", "score", "own", "everywhere", "federated", "tuned", "central", "fed/central", "tuned/own",
          "sites that gain", "worst site"]  # fmt: skip


def _ratio(problem: Problem, ours: float, theirs: float) -> float:
    """Return the ratio of two scores so that above 1 is better."""
    return theirs / ours if problem.error else ours / theirs


VARIANTS: dict[str, Callable[[Problem], Problem]] = {
    "FedAvg": lambda p: _with(p, correction=0.0),
    "FedProx 0.01": lambda p: _with(p, 0.01, correction=0.0),
    "FedProx 0.1": lambda p: _with(p, 0.1, correction=0.0),
    "drift taken back": lambda p: _with(p, correction=1.0),
    "half": lambda p: _with(p, correction=0.5),
    "and FedProx 0.01": lambda p: _with(p, 0.01, correction=1.0),
    "and last layer local": lambda p: _local(_with(p, correction=1.0)),
}


def _with(problem: Problem, mu: float = 0.0, **changes: float) -> Problem:
    training = msgspec.structs.replace(problem.plan.training, proximal_mu=mu)
    return replace(problem, plan=replace(problem.plan, training=training, **changes))  # type: ignore[arg-type]


def _local(problem: Problem) -> Problem:
    """Keep the last layer at each site."""
    layer = TrainableGraph.load(problem.model(0)).layout[-1].name.rpartition(".")[0]

    return problem.keeping(f"{layer}.*")


def ablation(problem: Problem, seeds: int) -> list[str]:
    """Return one row: the score of each way to federate, on the validation cut."""
    scores = []
    for change in VARIANTS.values():
        changed = change(problem)
        sites = {n: standardised(s, changed.card) for n, s in changed.sites.items()}
        found = []
        for seed in range(seeds):
            graph = TrainableGraph.load(changed.model(seed))
            fed = baselines.federated(graph, graph.params.copy(), sites, changed.plan, seed)
            found.append(Evaluator(changed, graph, sites).overall(fed.at))
        scores.append(float(np.mean(found)))
    return [problem.name, problem.metric, *(f"{s:.2f}" if scores[0] > 1 else f"{s:.3f}" for s in scores)]


def _shorter(problem: Problem) -> Problem:
    def half(plan: Plan) -> Plan:
        return replace(plan, rounds=max(3, plan.rounds // 2), halving=plan.halving // 2)

    return replace(problem, plan=half(problem.plan), alone=half(problem.alone), central=half(problem.central))


def _more(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--set", action="append", choices=list(SETS), help="only this set; may be repeated")
    parser.add_argument("--validate", action="store_true", help="judge on a cut of the training part")
    parser.add_argument("--serving", action="store_true", help="measure only what serves at sites")
    parser.add_argument("--ablation", action="store_true", help="compare ways to federate, on that cut")


def main() -> None:
    """Print the table."""
    args = arguments(__doc__ or "", _more, data=True)
    rows, seeds = [], 1 if args.quick else SEEDS
    points: list[list[str]] = []
    figures: dict[str, float] = {}
    for name in args.set or SETS:
        problem = SETS[name](args.data)
        if args.validate or args.ablation:
            if not problem.validation:
                continue
            problem = problem.validating()
        problem = _shorter(problem) if args.quick else problem
        if args.serving:
            if not problem.unseen:
                many = 1 if args.quick else SEEDS_OF_SERVING.get(name, MOST_SEEDS)
                more, found = _serving.rows(problem, _serving.served(problem, many))
                rows += more
                figures |= found
            continue
        if args.ablation:
            rows.append(ablation(problem, seeds))
            continue
        row, found = summary(problem, seeds)
        rows.append(row)
        figures |= found
        if name == "skab" and not args.validate:
            points, found = _points.rows(args.data, 1 if args.quick else MOST_SEEDS)
            figures |= found
    header = _serving.HEADER if args.serving else ["set", "score", *VARIANTS] if args.ablation else HEADER
    table(header, rows)
    if points:
        print()
        table(_points.HEADER, points)
    finish("accuracy", figures, args.json)


if __name__ == "__main__":
    main()
