# SPDX-License-Identifier: Apache-2.0
"""Every rule under every attack: what is left of the score, on five sets whose sites differ.

Each set's real sites are cut into ten or twenty smaller ones; a fifth, then three tenths of them, drawn by the seed,
are hostile. The whole of `fedge-fleet simulate` runs: int8 updates signed and verified, rule, grid, release; the models
and rounds are small. Scored are the honest sites, as the mean over the last four releases. *kept*: the score under an
attack over that of the same rule, seed and sites without; *of what is left*: over that where the hostile sites'
updates are refused, so that their data is missing and no defence can do more; *serving kept*: what decides at honest
sites (the tuned release with each site's own model) over the better of the two at each site; *cost*: a rule's score
without attack over FedAvg's. Means over the seeds; a cell is a federation of its own for each. "waits": so many updates
were refused that the rule has too few, and no round ends, or that the attack does not exist for the set. `--quick`: the
sets and the attacks that were worst for FedAvg and the default in full runs, one seed; other figures.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from _common import arguments, finish  # isort: skip  # sets the BLAS threads first
from _attack_results import BESIDE, CALM, DEFAULT, NOTHING, Found, Job, Results, figures, show  # isort: skip

import msgspec
import numpy as np
from fedge_fleet.data.held_back import holding_back
from fedge_fleet.data.problems.problem import Problem
from fedge_fleet.data.problems.registry import SETS
from fedge_fleet.data.site_data import Floats
from fedge_fleet.simulate.attacks.registry import ATTACKS
from fedge_fleet.simulate.champions import alone, champions
from fedge_fleet.simulate.config import Config
from fedge_fleet.simulate.run import Fleet, Outcome, simulate
from fedge_fleet.simulate.scores import Evaluator, Model
from fedge_models.errors import ConfigError, StopError

SHARES = (0.2, 0.3)
SEEDS = 6
LAST = 4  # releases whose mean is the score: from one to the next it jitters
DRIFT = 0.5  # of its own drift that a site takes back; all of it adds up what an attack has moved
Tables = dict[str, Any]


class Case(NamedTuple):
    """A data set as it is attacked."""

    sites: int
    problem: Callable[[Path], Problem]


def _trained(problem: Problem, rounds: int, epochs: int, rate: float, halving: int) -> Problem:
    training = msgspec.structs.replace(problem.plan.training, epochs=epochs, learning_rate=rate)
    return replace(problem, plan=replace(problem.plan, rounds=rounds, halving=halving, training=training))


def _ai4i(data: Path) -> Problem:
    """AI4I with no local tensors: small sites have a handful of failures each."""
    return _trained(SETS["ai4i"](data).keeping(""), 16, 6, 0.01, 8)


CASES = {
    "xsdd": Case(10, SETS["xsdd"]),
    "fan": Case(20, SETS["fan"]),
    "skab": Case(20, SETS["skab"]),
    "ai4i": Case(10, _ai4i),
    "liion": Case(12, SETS["liion"]),
}


HOW: Mapping[str, Tables] = {  # attacks that are made other than by default
    "adaptive": {"towards": "deviation"},  # the worst of the directions on AI4I, and a third of the time
    "adaptive_fellows": {"name": "adaptive", "fellows": True, "towards": "deviation"},
    "claims_late": {"name": "sample_inflation"},
    "honest_away": {"name": "honest"},
    "honest_late": {"name": "honest"},
    "min_max_fellows": {"name": "min_max", "fellows": True},
    "min_sum_fellows": {"name": "min_sum", "fellows": True},
    "refused_away": {"name": "not_finite"},
    "refused_late": {"name": "not_finite"},
    "sleeper": {"after": 6},  # runs are short
}
AWAY: Tables = {"dropouts": 0.3, "federation": {"quorum": 3}}  # so that releases with and without a site are compared
LATE: Tables = {"stragglers": 0.3, "slowness": 5.0, "federation": {"mode": "asynchronous"}}
SETTINGS: Mapping[str, Tables] = {  # of the federation, where an attack needs others
    **dict.fromkeys(("lying_losses", "honest_away", "refused_away"), AWAY),
    **dict.fromkeys(("claims_late", "honest_late", "refused_late"), LATE),
}
UNDER = sorted({*ATTACKS, *HOW} - BESIDE)
BYZANTINE = 0.3  # of the updates: what the rules are told, whatever the share is


def _named(name: str, **more: float) -> Tables:
    return {"rule": {"name": name, **more}}


def _told(name: str, share: float = BYZANTINE) -> Tables:
    return _named(name, byzantine=share)


def _mixed(tables: Tables) -> Tables:
    return {**tables, "mixing": {"name": "nearest_neighbour_mixing", "byzantine": BYZANTINE}}


def _trusting(tables: Tables, **more: float) -> Tables:
    return {**tables, "trust": {}, **more}


RULES: Mapping[str, Tables] = {
    "fedavg": _named("fedavg"),
    "norm clipping": _named("norm_clipping"),
    "median": _named("median"),
    "trimmed mean": _told("trimmed_mean"),
    "krum": _told("krum"),
    "multi-krum": _told("multi_krum"),
    "bulyan": _told("bulyan", 0.25),
    "geometric median": _named("geometric_median"),
    "centred clipping": _named("centred_clipping"),
    "bucketing + geom. median": {**_named("geometric_median"), "mixing": {"name": "bucketing"}},
    "nnm + trimmed mean": _mixed(_told("trimmed_mean")),
    "nnm + geom. median": _mixed(_named("geometric_median")),
    "trimmed mean + trust": _trusting(_told("trimmed_mean")),
    "geom. median + trust": _trusting(_named("geometric_median")),
    "nnm + trimmed mean + trust": _trusting(_mixed(_told("trimmed_mean"))),
}


@lru_cache(maxsize=2)
def _fleet(name: str, seed: int, data: Path) -> Fleet:
    return Fleet(Config(sites=CASES[name].sites, seed=seed), "benchmark", holding_back(CASES[name].problem(data)))


@lru_cache(maxsize=2)
def _own_models(name: str, seed: int, data: Path) -> Mapping[str, Floats]:
    """Each site's own model: no release enters it, so it is the same under every rule and attack."""
    fleet = _fleet(name, seed, data)
    plan = fleet.problem.plan
    return {n: alone(fleet.graph, fleet.start, site, plan, seed) for n, site in fleet.sites.items()}


def run(job: Job) -> tuple[Job, Found]:
    """Simulate one federation."""
    fleet = _fleet(job.set, job.seed, job.data)
    own = {
        "sites": len(fleet.sites),
        "seed": job.seed,
        "attack": {"name": job.attack, **HOW.get(job.attack, {})},
        "hostile": job.share,
    }
    more = SETTINGS.get(job.attack, {})
    config = Config(**{"drift_correction": DRIFT, "trust": None, **own, **RULES[job.rule], **more})
    try:
        made = simulate(config, "benchmark", fleet=fleet)
    except (StopError, ConfigError):  # no round ends, or the attack has nothing to turn in this set
        return job, NOTHING
    end = made.history[-LAST:]
    return job, Found(float(np.mean([p.score for p in end])), end[-1].backdoor, *_served(job, fleet, made))


def _served(job: Job, fleet: Fleet, made: Outcome) -> tuple[float, float]:
    """What decides at the honest sites, and the better of what it consists of."""
    honest = {n: site for n, site in fleet.sites.items() if n not in made.hostile}
    own = _own_models(job.set, job.seed, job.data)
    models = champions(fleet.graph, fleet.start, made.federation, honest, fleet.problem.plan, job.seed, own=own)
    parts: list[Callable[[str], Model]] = [
        lambda n: models[n].serves,
        lambda n: models[n].own,
        lambda n: models[n].tuned,
    ]
    evaluator, best = Evaluator(fleet.problem, fleet.graph, honest), min if fleet.problem.error else max
    if fleet.problem.pooled or not evaluator.sites(parts[0]):  # scored on all rows together
        served, *others = (evaluator.overall(part) for part in parts)
        return served, best(others)
    sites, own_scores, tuned = (evaluator.sites(part) for part in parts)
    better = [best((own_scores[n], tuned[n])) for n in sites]
    return float(np.mean([*sites.values()])), float(np.mean(better))


def all_jobs(args: argparse.Namespace) -> list[Job]:
    """List all federations, in an order that keeps a worker on one fleet."""
    sets, rules, attacks, shares, seeds = _chosen(args)
    return [
        Job(s, r, a, share, seed, args.data)
        for s in sets for seed in range(seeds) for share in shares for r in rules for a in attacks
    ]  # fmt: skip


def _chosen(args: argparse.Namespace) -> tuple[list[str], list[str], list[str], tuple[float, ...], int]:
    if args.quick:
        attacks = ["honest", "not_finite", "sample_inflation", "sleeper"]
        return ["liion", "xsdd"], ["fedavg", DEFAULT], attacks, (0.3,), 1
    attacks = ["honest", *sorted(set(args.attack or UNDER) - {"honest"})]
    attacks += [name for attack in attacks for name in CALM.get(attack, ())]
    shares = tuple(args.share or SHARES)
    return args.set or list(CASES), args.rule or list(RULES), attacks, shares, args.seeds


def work(jobs: Iterable[Job], workers: int) -> dict[Job, Found]:
    """Simulate all federations on all cores, with a line of progress."""
    jobs, found = list(jobs), {}
    with ProcessPoolExecutor(workers) as pool:
        for k, (job, one) in enumerate(pool.map(run, jobs, chunksize=4)):
            found[job] = one
            if sys.stderr.isatty():
                print(f"\r{k + 1} of {len(jobs)} federations", end="", file=sys.stderr, flush=True)
    return found


def _more(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--set", action="append", choices=list(CASES), help="only this set; may be repeated")
    parser.add_argument("--rule", action="append", choices=list(RULES), help="only this rule; may be repeated")
    parser.add_argument(
        "--attack", action="append", choices=["honest", *UNDER], help="only this attack; may be repeated"
    )
    parser.add_argument("--share", action="append", type=float, help="only this share of hostile sites")
    parser.add_argument("--seeds", type=int, default=SEEDS)
    parser.add_argument("--workers", type=int, default=os.cpu_count(), help="processes")


def main() -> None:
    """Print the matrices."""
    args = arguments(__doc__ or "", _more, data=True)
    results = Results(work(all_jobs(args), args.workers))
    show(results)
    finish("attacks", figures(results), args.json)


if __name__ == "__main__":
    main()
