# SPDX-License-Identifier: Apache-2.0
"""Every rule under every attack: what is left of the score, on four sets whose sites differ.

Each set's real sites are cut into ten or twenty smaller ones; a fifth, then three tenths of them, drawn by the seed,
are hostile. The whole of `fedge-fleet simulate` runs: int8 updates signed and verified, rule, grid, release; the models
and rounds are small. Scored are the honest sites, as the mean over the last four releases. *kept*: the score under an
attack over that of the same rule, seed and sites without; *of what is left*: over that where the hostile sites'
updates are refused, so that their data is missing and no defence can do more; *serving kept*: what decides at honest
sites (the tuned release with each site's own model) over the better of the two at each site; *cost*: a rule's score
without attack over FedAvg's. Means over the seeds; a cell is a federation of its own for each. "waits": so many updates
were refused that the rule has too few, and no round ends. `--quick`: two sets, one seed, a fifth hostile, few rules and
attacks; other figures.
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

from _common import arguments, finish, table  # isort: skip  # sets the BLAS threads first

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
from fedge_models.errors import StopError
from fedge_models.graph import zoo

SHARES = (0.2, 0.3)
SEEDS = 2
LAST = 4  # releases whose mean is the score: from one to the next it jitters
REFUSED = "not_finite"  # at decode: the hostile sites are as good as absent
DEFAULT = "nnm + trimmed mean + trust"
DRIFT = 0.5  # of its own drift that a site takes back; all of it adds up what an attack has moved
Tables = dict[str, Any]


class Case(NamedTuple):
    """A data set as it is attacked."""

    sites: int
    problem: Callable[[Path], Problem]


class Job(NamedTuple):
    """One federation to simulate."""

    set: str
    rule: str
    attack: str
    share: float
    seed: int
    data: Path


def _trained(problem: Problem, rounds: int, epochs: int, rate: float, halving: int) -> Problem:
    training = msgspec.structs.replace(problem.plan.training, epochs=epochs, learning_rate=rate)
    return replace(problem, plan=replace(problem.plan, rounds=rounds, halving=halving, training=training))


def _xsdd(data: Path) -> Problem:
    """X-SDD at half the resolution."""
    problem = SETS["xsdd"](data)
    sites = {n: replace(s, x=s.x.reshape(-1, 1, 32, 2, 32, 2).mean(axis=(3, 5))) for n, s in problem.sites.items()}

    def model(seed: int) -> bytes:
        made = zoo.cnn2d(problem.card, (1, 32, 32), (8, 16, 32), seed, shrink=2, average=False)
        return made.SerializeToString()

    return _trained(replace(problem, sites=sites, model=model), 12, 3, 0.015, 6)


def _ai4i(data: Path) -> Problem:
    """AI4I with no local tensors: small sites have a handful of failures each."""
    return _trained(SETS["ai4i"](data).keeping(""), 16, 6, 0.01, 8)


CASES = {"xsdd": Case(10, _xsdd), "fan": Case(20, SETS["fan"]), "skab": Case(20, SETS["skab"]), "ai4i": Case(10, _ai4i)}


HOW: Mapping[str, Tables] = {  # attacks that are made other than by default
    "adaptive_fellows": {"name": "adaptive", "fellows": True},
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
LATE: Tables = {"stragglers": 0.3, "slowness": 5.0, "federation": {"mode": "asynchronous", "buffer": 5}}
SETTINGS: Mapping[str, Tables] = {  # of the federation, where an attack needs others
    **dict.fromkeys(("lying_losses", "honest_away", "refused_away"), AWAY),
    **dict.fromkeys(("claims_late", "honest_late", "refused_late"), LATE),
}
CALM = {"lying_losses": ("honest_away", "refused_away"), "claims_late": ("honest_late", "refused_late")}
BESIDE = {"honest", *(name for pair in CALM.values() for name in pair)}  # no attacks: what those are compared with
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


class Found(NamedTuple):
    """What became of one federation; scores are means over the honest sites."""

    score: float  # of the release
    backdoor: float  # its success
    served: float  # what decides at the sites: the tuned release with each site's own model
    better: float  # at each site the better of its own model and the attacked release, tuned


NOTHING = Found(*[float("nan")] * 4)


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
    except StopError:
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
    evaluator = Evaluator(fleet.problem, fleet.graph, honest)
    if fleet.problem.pooled or not evaluator.sites(parts[0]):  # scored on all rows together
        served, *others = (evaluator.overall(part) for part in parts)
        return served, max(others)
    sites, own_scores, tuned = (evaluator.sites(part) for part in parts)
    better = [max(own_scores[n], tuned[n]) for n in sites]
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
        few = ["honest", "sign_flip", "alie", "sample_inflation"]
        return ["fan", "skab"], ["fedavg", "median", DEFAULT], few, (0.2,), 1
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


class Results:
    """Scores of all federations, as ratios and means over seeds."""

    def __init__(self, found: Mapping[Job, Found]) -> None:
        self._found = {j[:5]: v for j, v in found.items()}
        self.sets = list(dict.fromkeys(job.set for job in found))
        self.rules = list(dict.fromkeys(job.rule for job in found))
        self.attacks = list(dict.fromkeys(job.attack for job in found))
        self.shares = list(dict.fromkeys(job.share for job in found))
        self.seeds = list(dict.fromkeys(job.seed for job in found))

    def _ratio(self, s: str, rule: str, attack: str, beside: str, share: float) -> float:
        """Return the mean over the seeds of a score over another of the same seed."""
        return self.score(s, rule, attack, share) / self.score(s, rule, beside, share)

    def score(self, s: str, rule: str, attack: str, share: float) -> float:
        """Return the mean score."""
        return float(np.mean([self._found[s, rule, attack, share, seed].score for seed in self.seeds]))

    def success(self, s: str, rule: str, share: float) -> float:
        """Return the mean success of the backdoor."""
        return float(np.mean([self._found[s, rule, "backdoor", share, seed].backdoor for seed in self.seeds]))

    def kept(self, s: str, rule: str, attack: str, share: float) -> float:
        """Return the score under an attack over the score without."""
        return self._ratio(s, rule, attack, CALM.get(attack, ("honest", REFUSED))[0], share)

    def left(self, s: str, rule: str, attack: str, share: float) -> float:
        """Return the score under an attack over the score with the hostile updates refused: no defence reaches more."""
        return self._ratio(s, rule, attack, CALM.get(attack, ("honest", REFUSED))[1], share)

    def serving(self, s: str, rule: str, attack: str, share: float) -> float:
        """Return what decides at honest sites over the better of their own models and the attacked release."""
        found = [self._found[s, rule, attack, share, seed] for seed in self.seeds]
        return float(np.mean([one.served for one in found]) / np.mean([one.better for one in found]))

    def worst_serving(self, rule: str, share: float) -> tuple[float, str, str]:
        """Return the smallest of those of all attacks and sets, and where it is."""
        pairs = [(s, a) for s in self.sets for a in self.attacks if a not in (REFUSED, "refused_away", "refused_late")]
        found = [(self.serving(s, rule, a, share), a, s) for s, a in pairs]
        return min((f for f in found if np.isfinite(f[0])), default=(float("nan"), "", ""))

    def cost(self, s: str, rule: str) -> float:
        """Return the score without an attack over FedAvg's."""
        share = self.shares[0]
        return self.score(s, rule, "honest", share) / self.score(s, "fedavg", "honest", share)

    def worst(self, rule: str, share: float, left: bool = False) -> tuple[float, str, str]:
        """Return the smallest kept score of all attacks and sets, and where it is."""
        pairs = [(s, a) for s in self.sets for a in self.attacks if a not in (*BESIDE, REFUSED)]
        ratio = self.left if left else self.kept
        found = [(ratio(s, rule, a, share), a, s) for s, a in pairs]
        return min((f for f in found if np.isfinite(f[0])), default=(float("nan"), "", ""))


def show(results: Results) -> None:
    """Print the matrix for each share and set, then a summary."""
    for share in results.shares:
        for s in results.sets:
            print(f"\n{s}: kept with {share:.0%} hostile; score without attack, and over FedAvg's")
            header = ["rule", "score", "cost", *(a for a in results.attacks if a not in BESIDE), "worst"]
            header += ["backdoor works"] if "backdoor" in results.attacks else []
            table(header, [_row(results, s, rule, share) for rule in results.rules])
    print("\nall sets: smallest kept, attack and set; smallest and mean cost")
    rows = []
    for rule in results.rules:
        worst = [results.worst(rule, share) for share in results.shares]
        costs = [results.cost(s, rule) for s in results.sets] if "fedavg" in results.rules else [float("nan")]
        cells = [f"{w:.3f} ({a}, {s})" for w, a, s in worst]
        if REFUSED in results.attacks:
            cells += [f"{results.worst(rule, share, left=True)[0]:.3f}" for share in results.shares]
        cells += [f"{w:.3f} ({a}, {s})" for w, a, s in (results.worst_serving(rule, share) for share in results.shares)]
        rows.append([rule, *cells, f"{min(costs):.3f}", f"{np.mean(costs):.3f}"])
    header = ["rule", *(f"kept at {s:.0%}" for s in results.shares)]
    header += [f"of what is left at {s:.0%}" for s in results.shares] if REFUSED in results.attacks else []
    header += [f"serving kept at {s:.0%}" for s in results.shares]
    table([*header, "cost, worst set", "mean"], rows)


def _row(results: Results, s: str, rule: str, share: float) -> list[str]:
    kept = [results.kept(s, rule, a, share) for a in results.attacks if a not in BESIDE]
    cost = f"{results.cost(s, rule):.3f}" if "fedavg" in results.rules else "-"
    row = [
        rule,
        f"{results.score(s, rule, 'honest', share):.3f}",
        cost,
        *("waits" if np.isnan(k) else f"{k:.3f}" for k in [*kept, np.nanmin(kept)]),
    ]
    return [*row, f"{results.success(s, rule, share):.2f}"] if "backdoor" in results.attacks else row


def figures(results: Results) -> dict[str, float]:
    """Return the figures of the default rule, and every rule's smallest kept score and cost."""
    out = {}
    for rule in results.rules:
        key = rule.replace(" + ", "_").replace(". ", "_").replace(" ", "_").replace("-", "_")
        for share in results.shares:
            out[f"{key}_worst_kept_{share * 100:.0f}"] = results.worst(rule, share)[0]
            out[f"{key}_serving_kept_{share * 100:.0f}"] = results.worst_serving(rule, share)[0]
        if "fedavg" in results.rules:
            out[f"{key}_no_attack_cost"] = min(results.cost(s, rule) for s in results.sets)
    if DEFAULT in results.rules:
        out["worst_kept"] = results.worst(DEFAULT, results.shares[0])[0]
        out["serving_kept"] = results.worst_serving(DEFAULT, results.shares[-1])[0]
        if REFUSED in results.attacks:
            for share in results.shares:
                out[f"worst_of_left_{share * 100:.0f}"] = results.worst(DEFAULT, share, left=True)[0]
            out["worst_kept_of_what_is_left"] = results.worst(DEFAULT, results.shares[0], left=True)[0]
        if "fedavg" in results.rules:
            out["no_attack_cost"] = min(results.cost(s, DEFAULT) for s in results.sets)
    return out


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
