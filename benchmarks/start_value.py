# SPDX-License-Identifier: Apache-2.0
"""What a site that joins decides with while its own tensors are young: the file's start value, or the other sites'.

One site after the other stays out of the federation (FedAvg, the real int8 coding); then it joins with 0, 16 or 64
labelled samples, drawn by seed from its training part. With 0 it decides with the release as it is. With more it trains
three times on the newest release, keeps its own tensors, and tunes for two gentle epochs. Scores are of its own test
part, means over the sites that were left out; ± is the standard error over seeds. *averaged*: the same tensors are not
local but averaged like all others. `--validate`: a cut of the training part instead of the test part, by which the
median was chosen over *mean* and *nearest* (of the site whose tensors are closest to the median). `--quick`: one seed,
the first set, other figures.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import NamedTuple

from _common import arguments, finish, table  # isort: skip  # sets the BLAS threads first

import msgspec
import numpy as np
from fedge_agent.learning.tuning import RATE, complete
from fedge_fleet.data.member import train
from fedge_fleet.data.problems.problem import Problem
from fedge_fleet.data.problems.registry import SETS
from fedge_fleet.data.site_data import Floats, Labels, Windows, standardised, trainable
from fedge_fleet.simulate import baselines
from fedge_fleet.simulate.loop import SiteModels
from fedge_fleet.simulate.scores import Evaluator
from fedge_models.graph.trainable import TrainableGraph
from fedge_models.training import personal
from fedge_models.training.loop import fit

SEEDS, TURNS = 6, 3
SAMPLES = (0, 16, 64)


class Case(NamedTuple):
    """Which tensors of a set stay at its sites."""

    set: str
    local: str
    text: str


CASES = {
    "ai4i": Case("ai4i", "dense2.*", "AI4I, six sites, last layer"),
    "fan": Case("fan", "dense2.*", "fan, last layer"),
    "liion": Case("liion", "dense2.*", "Li-ion, last layer"),
}
WAYS = ("file", "shared")
TRIED = ("mean", "nearest")


def problem_of(case: Case, args: argparse.Namespace) -> Problem:
    """The set with these tensors local. AI4I's three variants are dealt to two sites each by rows, as three sites
    without the one that is left out are too few for a median."""
    problem = SETS[case.set](args.data).keeping(case.local, "shared")
    problem = problem.validating() if args.validate else problem
    if case.set != "ai4i":
        return problem
    halves = {f"{name}{half}": _half(site, half) for name, site in problem.sites.items() for half in (1, 2)}
    return replace(problem, sites=halves)


def _half(site: Windows, half: int) -> Windows:
    """Half of the training rows, and all that is scored."""
    keep = site.test | (np.arange(len(site.y)) * 2 // len(site.y) == half - 1)
    return Windows(site.x[keep], site.y[keep], site.test[keep], site.held[keep])


def left_out(case: Case, sites: Mapping[str, Windows]) -> Iterator[tuple[str, dict[str, Windows]]]:
    """Each site, and the others. Of AI4I the other half of the same variant stays out, too."""
    for name in sites:
        if case.set != "ai4i" or name.endswith("1"):
            yield name, {n: s for n, s in sites.items() if n != name and (case.set != "ai4i" or n[0] != name[0])}


def measure(case: Case, problem: Problem, seed: int) -> dict[str, list[float]]:
    """Scores of one seed by "way samples", a list entry a site that was left out."""
    sites = {n: standardised(s, problem.card) for n, s in problem.sites.items()}
    averaged, found = problem.keeping(""), dict[str, list[float]]()
    for name, others in left_out(case, sites):
        graph = TrainableGraph.load(problem.model(seed))
        first, mask = graph.params.copy(), personal.local_mask(graph)
        made = baselines.federated(graph, first.copy(), others, problem.plan, seed)
        evaluator, scores = Evaluator(problem, graph, {name: sites[name]}), {}
        for way, own in starts(first, made, mask).items():
            for count in SAMPLES:
                model = joined(graph, made.params, own, mask, problem, sites[name], count, seed)
                scores[f"{way} {count}"] = evaluator.sites(lambda _, m=model: m)  # type: ignore[misc]  # bound at once
        _same_for_others(problem, made, others, seed)
        common, nothing = TrainableGraph.load(averaged.model(seed)), np.zeros_like(mask)
        release = baselines.federated(common, first.copy(), others, problem.plan, seed).params
        for count in SAMPLES:
            model = joined(graph, release, first[:0], nothing, problem, sites[name], count, seed)
            scores[f"averaged {count}"] = evaluator.sites(lambda _, m=model: m)  # type: ignore[misc]
        for key, by_site in scores.items():
            found.setdefault(key, []).extend(by_site.values())
    return found


def _same_for_others(problem: Problem, made: SiteModels, others: Mapping[str, Windows], seed: int) -> None:
    """The other sites lose nothing: their models are the same bits without the start value."""
    plain = problem.keeping(problem.card.local)
    graph = TrainableGraph.load(plain.model(seed))
    without = baselines.federated(graph, graph.params.copy(), others, plain.plan, seed)
    assert all((made.at(name) == without.at(name)).all() for name in others)


def starts(first: Floats, made: SiteModels, mask: personal.Mask) -> dict[str, Floats]:
    """What a new site's own tensors begin with, by way."""
    own = np.stack(list(made.own.values()))
    middle = np.median(own, axis=0)
    nearest = own[np.argmin(((own - middle) ** 2).sum(axis=1))]
    return {
        "file": first[mask],
        "shared": made.params[mask],
        "mean": own.mean(axis=0, dtype=np.float32),
        "nearest": nearest,
    }


def joined(
    graph: TrainableGraph,
    release: Floats,
    own: Floats,
    mask: personal.Mask,
    problem: Problem,
    site: Windows,
    count: int,
    seed: int,
) -> Floats:
    """The model that decides at a site which has so many samples, and began with these tensors of its own."""
    x, y = drawn(*trainable(site, graph.card), count, seed)
    rng, plan = np.random.default_rng(seed), problem.plan
    if not count:
        return personal.compose(release, own, mask)
    for turn in range(TURNS):
        graph.set_params(personal.compose(release, own, mask))
        train(graph, x, y, plan, plan.rounds + 1 + turn, rng)
        own = personal.extract(graph.params, mask)
    model = personal.compose(release, own, mask)
    if not complete(graph, y):
        return model
    graph.set_params(model)
    rate = RATE * plan.training.learning_rate
    fit(graph, x, y, msgspec.structs.replace(plan.training, epochs=plan.fine_tune, learning_rate=rate), rng)
    return graph.params.copy()


def drawn(x: Floats, y: Labels, count: int, seed: int) -> tuple[Floats, Labels]:
    """So many of the samples."""
    which = np.random.default_rng([seed, 5]).permutation(len(x))[:count]
    return x[which], y[which]


def rows(case: Case, problem: Problem, seeds: int, ways: tuple[str, ...]) -> tuple[list[list[str]], dict[str, float]]:
    """The rows of a case, one a number of samples, and its figures."""
    runs = [measure(case, problem, seed) for seed in range(seeds)]
    lines, figures = list[list[str]](), dict[str, float]()
    for count in SAMPLES:
        cells = []
        for way in ways:
            means = np.array([np.mean(run[f"{way} {count}"]) for run in runs])
            error = float(means.std(ddof=1) / seeds**0.5) if seeds > 1 else 0.0
            figures |= {f"{way}_{count}": float(means.mean()), f"{way}_{count}_error": error}
            cells.append(f"{means.mean():.3f} ± {error:.3f}")
        gains = [np.mean(run[f"shared {count}"]) - np.mean(run[f"file {count}"]) for run in runs]
        figures[f"gain_{count}_error"] = float(np.std(gains, ddof=1) / seeds**0.5) if seeds > 1 else 0.0
        lines.append([case.text, problem.metric, str(count), *cells])
    return lines, figures


def _more(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--case", action="append", choices=list(CASES), help="only this one; may be repeated")
    parser.add_argument("--validate", action="store_true", help="judge on a cut of the training part")


def main() -> None:
    """Print the table."""
    args = arguments(__doc__ or "", _more, data=True)
    ways = (*WAYS, *(TRIED if args.validate else ()), "averaged")
    lines: list[list[str]] = []
    figures: dict[str, float] = {}
    for name in args.case or (list(CASES)[:1] if args.quick else CASES):
        made, found = rows(CASES[name], problem_of(CASES[name], args), 1 if args.quick else SEEDS, ways)
        lines += made
        figures |= {f"{name}_{key}": value for key, value in found.items()}
    table(["tensors of the site", "score", "samples", *ways], lines)
    finish("start_value", figures, args.json)


if __name__ == "__main__":
    main()
