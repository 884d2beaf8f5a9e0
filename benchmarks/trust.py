# SPDX-License-Identifier: Apache-2.0
"""Who is quarantined, how soon, and who wrongly: trust on honest fleets that differ and under attacks.

Each set's sites are cut into ten to twenty; `*_classes` deal one class to each site, the worst honest skew there is.
The whole of `fedge-fleet simulate` runs, with the weights that trust gives. First honest fleets: nobody should be
quarantined, whether sites take their drift back or not, answer always or two times in three; then attacks. *caught*:
hostile sites quarantined at the end; *rounds*: median until they were; *hit*: honest sites ever quarantined; *weight*:
the hostile sites' part of all weight at the end; *score* without attack, and under attack without and with trust.
A last table compares hostile sites that are honest for 20 rounds, by when most sets have converged, with those that
attack from the start: rounds until they were quarantined, how many of them, and the score at the end over that where
they stay honest.

Thresholds were chosen on seeds 0 to 2 of fan, fan_classes, skab and ai4i, in another, smaller loop with its own attacks
under a trimmed mean; two were tightened after a look at seed 10 of fan. Seeds here start at 10. `--quick`: two sets,
one seed, few attacks; other figures.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from itertools import product
from pathlib import Path
from typing import Annotated, Any, ClassVar, NamedTuple

from _common import arguments, finish, table  # isort: skip  # sets the BLAS threads first

import numpy as np
from _attack_results import DEFAULT
from attacks import CASES, RULES
from fedge_aggregator.rounds.trust.reputation import TrustConfig
from fedge_fleet.data.site_data import Windows, pooled
from fedge_fleet.simulate.attacks.attack import Attack, Forged, Seen
from fedge_fleet.simulate.attacks.registry import ATTACKS
from fedge_fleet.simulate.config import Config
from fedge_fleet.simulate.loop import SiteModels
from fedge_fleet.simulate.run import Fleet, _assemble
from fedge_fleet.simulate.scores import Evaluator
from fedge_models.training.evaluation import evaluate
from msgspec import Meta

SHARES = (0.1, 0.2, 0.3)
SEEDS, FIRST_SEED = 2, 10
ROUNDS, WAKES = 24, 20
Floats = Any


class Scaled(Attack, frozen=True):
    """Sends the opposite, far longer: what the grid's ±127 steps leave of it."""

    def forge(self, seen: Seen, state: Floats | None, shared: np.random.Generator, rng: np.random.Generator) -> Forged:
        """Send minus ten times its own update."""
        return Forged(-np.float32(10) * seen.own)


class OnOff(Attack, frozen=True):
    """Behaves three times, then turns its sign: Sun, Han & Liu 2008 on trust that forgets."""

    period: Annotated[int, Meta(ge=2)] = 4

    def forge(self, seen: Seen, state: Floats | None, shared: np.random.Generator, rng: np.random.Generator) -> Forged:
        """Turn the sign in every fourth update. State: rounds so far (1,)."""
        done = 0 if state is None else int(state[0])
        sign = -1 if done % self.period == self.period - 1 else 1
        return Forged(np.float32(sign) * seen.own, np.array([done + 1], np.float32))


class Idle(Attack, frozen=True):
    """A free rider that sends zeros."""

    trains: ClassVar[bool] = False

    def forge(self, seen: Seen, state: Floats | None, shared: np.random.Generator, rng: np.random.Generator) -> Forged:
        """Send zeros."""
        return Forged(np.zeros_like(seen.own))


class Asleep(Attack, frozen=True):
    """Is honest for so many updates, then makes another attack: Perrone & Nelson 2006 on attacks that turn on."""

    of: Attack
    after: int = WAKES

    def forge(self, seen: Seen, state: Any, shared: np.random.Generator, rng: np.random.Generator) -> Forged:
        """Send its own update, later that of the attack. State: updates so far, and the attack's state."""
        sent, inner = state or (0, None)
        if sent < self.after:
            return Forged(seen.own, (sent + 1, None))
        made = self.of.forge(seen, inner, shared, rng)
        return Forged(made.row, (sent + 1, made.state), made.samples, made.spread)


MORE = {"scaled": Scaled(), "on_off": OnOff(), "idle": Idle()}
FROM_REGISTRY = ("sign_flip", "gaussian", "alie", "ipm", "label_flip", "slow_drift", "free_rider", "sybils", "mimic",
                 "sample_inflation", "backdoor")  # fmt: skip
UNDER = (*FROM_REGISTRY, *MORE)
ASLEEP = {f"asleep_{n}": n for n in ("honest", "sign_flip", "gaussian", "ipm", "idle", "slow_drift")}
SLEEPERS_ON = ("skab", "ai4i", "xsdd", "fan", "fan_classes")
SLEEPING_SHARE = 0.2


class Set(NamedTuple):
    """A data set and how it is dealt."""

    problem: str  # of attacks.CASES
    sites: int
    skew: str = "own"


SETS = {
    "fan": Set("fan", 20),
    "fan_classes": Set("fan", 20, "classes"),
    "skab": Set("skab", 20),
    "ai4i": Set("ai4i", 10),
    "xsdd": Set("xsdd", 10),
    "xsdd_classes": Set("xsdd", 14, "classes"),
}
HONEST = {"drift taken back": {}, "drift kept": {"drift_correction": 0.0}, "two of three answer": {"dropouts": 0.33}}


class Job(NamedTuple):
    """One federation to simulate."""

    set: str
    attack: str  # or a way to be honest
    share: float
    seed: int
    rule: str
    trust: bool
    data: Path


@dataclass(frozen=True)
class Found:
    """What happened in it."""

    score: float
    caught: tuple[int, ...]  # round in which each hostile site was first quarantined; 0: never
    hit: int  # honest sites ever quarantined
    honest: int
    lowest: float  # score of the least trusted honest site at the end, over what all have earned
    weight: float  # the hostile sites' part of all weight at the end


@lru_cache(maxsize=2)
def _fleet(name: str, seed: int, data: Path) -> Fleet:
    which = SETS[name]
    skew = {"name": "classes", "per_site": 1} if which.skew == "classes" else {"name": which.skew}
    config = Config(sites=which.sites, skew=skew, seed=seed)
    return Fleet(config, "benchmark", CASES[which.problem].problem(data))


def run(job: Job) -> tuple[Job, Found]:
    """Simulate one federation to its end."""
    fleet = _fleet(job.set, job.seed, job.data)
    trust: dict[str, Any] | None = {} if job.trust else None
    tables = {**RULES[job.rule], **HONEST.get(job.attack, {}), "trust": trust}
    config = Config(
        sites=len(fleet.sites), seed=job.seed, hostile=job.share, rounds=ROUNDS + WAKES * (job.attack in ASLEEP),
        federation={"quorum": max(3, len(fleet.sites) // 2)}, **tables,
    )  # fmt: skip
    loop, bad, server = _assemble(config, "benchmark", fleet, _attack(job.attack))
    score = _score(fleet, {n: s for n, s in fleet.sites.items() if n not in bad}, loop.run())
    if not job.trust:
        return job, Found(score, (), 0, 0, 1.0, len(bad) / len(fleet.sites))
    return job, _found(score, list(fleet.sites), bad, server.changes, server._state.reputations)


def _score(fleet: Fleet, sites: dict[str, Windows], end: SiteModels) -> float:
    """Score the honest sites' test parts; all rows together where each site has one class only."""
    if max(len(np.unique(s.y)) for s in sites.values()) > 1:
        return Evaluator(fleet.problem, fleet.graph, sites).overall(end.at)
    x, y = pooled(sites).part(test=True)
    fleet.graph.set_params(end.params)
    return evaluate(fleet.graph, x, y)[fleet.problem.metric]


def _attack(name: str) -> Attack:
    if name in ASLEEP:
        return Asleep(_attack(ASLEEP[name]))
    return MORE[name] if name in MORE else ATTACKS[name]() if name in ATTACKS else Attack()


def _found(score: float, names: list[str], bad: tuple[str, ...], changes: list[str], reputations: Any) -> Found:
    first: dict[str, int] = {}
    for change in changes:  # "release 3: name is in quarantine: ..."
        release, _, rest = change.partition(": ")
        if " is in quarantine" in rest:
            first.setdefault(rest.split(" is in quarantine")[0], int(release.split()[1]))
    config = TrustConfig()
    trust = {n: s.score(config) for n, s in reputations.items()}
    honest = [n for n in names if n not in bad]
    lowest = min(1 - reputations[n].suspicion / config.limit if not reputations[n].quarantined else 0 for n in honest)
    part = sum(trust[n] for n in bad) / max(sum(trust.values()), 1e-9)
    return Found(score, tuple(first.get(n, 0) for n in bad), sum(n in first for n in honest), len(honest), lowest, part)


def all_jobs(args: argparse.Namespace) -> list[Job]:
    """List honest fleets under two rules, and attacks with and without trust."""
    sets, seeds = args.set or list(SETS), range(FIRST_SEED, FIRST_SEED + args.seeds)
    attacks, shares = args.attack or list(UNDER), args.share or SHARES
    if args.quick:
        sets, seeds, attacks, shares = ["fan", "skab"], range(FIRST_SEED, FIRST_SEED + 1), ["sign_flip", "alie"], (0.2,)
    jobs = []
    for name in sets if not args.sleepers else ():
        for seed in seeds:
            jobs += [Job(name, h, 0.0, seed, r, True, args.data) for h in HONEST for r in ("fedavg", DEFAULT)]
            jobs.append(Job(name, "drift taken back", 0.0, seed, args.rule, False, args.data))
            for share in shares:
                jobs += [Job(name, a, share, seed, args.rule, t, args.data) for a in attacks for t in (False, True)]
    return jobs + _sleepers(args, [name for name in SLEEPERS_ON if name in sets], seeds)


def _sleepers(args: argparse.Namespace, sets: Iterable[str], seeds: Iterable[int]) -> list[Job]:
    """List attacks from the start, and after so many honest rounds, under the rule of attacks and the default."""
    names, rules = [*ASLEEP, *ASLEEP.values()], dict.fromkeys((args.rule, DEFAULT))
    share = SLEEPING_SHARE
    return [Job(n, a, share, s, r, True, args.data) for n in sets for s in seeds for r in rules for a in names]


def work(jobs: Iterable[Job], workers: int) -> dict[Job, Found]:
    """Simulate all federations on all cores, with a line of progress."""
    jobs, found = list(dict.fromkeys(jobs)), {}
    with ProcessPoolExecutor(workers) as pool:
        for k, (job, result) in enumerate(pool.map(run, jobs, chunksize=4)):
            found[job] = result
            if sys.stderr.isatty():
                print(f"\r{k + 1} of {len(jobs)} federations", end="", file=sys.stderr, flush=True)
    return found


def _of(found: dict[Job, Found], **like: object) -> list[Found]:
    return [f for j, f in found.items() if all(getattr(j, k) == v for k, v in like.items())]


def honest(found: dict[Job, Found]) -> dict[str, float]:
    """Print the table of fleets without an attack; return the figures."""
    rows, hits, honest_rounds = [], 0, 0
    for name in dict.fromkeys(j.set for j in found):
        for how in HONEST:
            cells = [name, how]
            for rule in ("fedavg", DEFAULT):
                these = _of(found, set=name, attack=how, rule=rule, trust=True)
                hits, honest_rounds = hits + sum(f.hit for f in these), honest_rounds + sum(f.honest for f in these)
                cells += [f"{sum(f.hit for f in these)} of {sum(f.honest for f in these)}"]
                cells += [f"{min(f.lowest for f in these):.2f}"]
            rows.append(cells)
    table(["honest fleet", "how", "hit (fedavg)", "least trusted", f"hit ({DEFAULT})", "least trusted"], rows)
    return {"honest_hit": hits / honest_rounds, "honest_judged": honest_rounds}


def attacked(found: dict[Job, Found]) -> dict[str, float]:
    """Print the table of attacks; return the figures."""
    rows: list[list[str]] = []
    figures: dict[str, float] = {}
    cases = dict.fromkeys((j.set, j.attack, j.share) for j in found if j.share and not j.trust)
    for name, attack, share in cases:
        rule = next(j.rule for j in found if j.share and not j.trust)
        without, these = (_of(found, set=name, attack=attack, share=share, trust=t, rule=rule) for t in (False, True))
        calm = np.mean([f.score for f in _of(found, set=name, share=0.0, rule=rule, trust=False)])
        bad, good = np.mean([f.score for f in without]), np.mean([f.score for f in these])
        caught = [c for f in these for c in f.caught]
        when = f"{np.median([c for c in caught if c]):.0f}" if any(caught) else "-"
        hit, all_honest = sum(f.hit for f in these), sum(f.honest for f in these)
        weight = np.mean([f.weight for f in these])
        rows.append([name, attack, f"{share:.0%}", f"{sum(c > 0 for c in caught)} of {len(caught)}", when])
        rows[-1] += [f"{hit} of {all_honest}", f"{weight:.2f}", f"{calm:.3f}", f"{bad:.3f}", f"{good:.3f}"]
        key = f"{name}_{attack}_{share * 100:.0f}"
        figures |= {f"{key}_caught": float(np.mean([c > 0 for c in caught])), f"{key}_hit": hit / all_honest}
        figures |= {f"{key}_score_without": bad / calm, f"{key}_score_with": good / calm}
    header = ["set", "attack", "hostile", "caught", "rounds", "hit", "weight", "score", "attacked", "with trust"]
    table(header, rows)
    hits = [f for j, f in found.items() if j.share and j.trust]
    return figures | {"attacked_hit": sum(f.hit for f in hits) / sum(f.honest for f in hits)}


def woken(found: dict[Job, Found]) -> dict[str, float]:
    """Print the rounds until sleepers and others are quarantined; return the figures."""
    rows: list[list[str]] = []
    figures: dict[str, float] = {}
    cases = dict.fromkeys((j.set, j.rule) for j in found if j.attack in ASLEEP)
    for (name, rule), (asleep, attack) in product(cases, ASLEEP.items()):
        cells = [name, rule, attack]
        for which, less in ((attack, 0), (asleep, WAKES)):
            of = {"set": name, "rule": rule, "share": SLEEPING_SHARE, "trust": True}
            these = _of(found, attack=which, **of)
            calm = _of(found, attack="asleep_honest" if less else "honest", **of)
            caught, all_of = [c - less for f in these for c in f.caught if c], sum(len(f.caught) for f in these)
            kept = np.mean([f.score for f in these]) / np.mean([f.score for f in calm])
            key = f"{name}_{'default' if rule == DEFAULT else rule}_{which}"
            figures[f"{key}_caught"], figures[f"{key}_kept"] = len(caught) / all_of, float(kept)
            if 2 * len(caught) > all_of:
                figures[f"{key}_rounds"] = float(np.median(caught))
            span = f"{min(caught)} to {max(caught)}, " if caught else ""
            cells += [f"{span}{len(caught)} of {all_of}", f"{kept:.3f}", f"{sum(f.hit for f in these)}"]
        rows.append(cells)
    start, later = (["quarantined", "score", "hit"] for _ in range(2))
    start[0], later[0] = "from the start: rounds, sites", f"after {WAKES} honest rounds"
    table(["set", "rule", "attack", *start, *later], rows)
    return figures


def _more(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--set", action="append", choices=list(SETS), help="only this set; may be repeated")
    parser.add_argument("--attack", action="append", choices=list(UNDER), help="only this attack; may be repeated")
    parser.add_argument("--share", action="append", type=float, help="hostile share; may be repeated")
    parser.add_argument("--rule", choices=list(RULES), default="fedavg", help="under attack; fedavg: trust alone")
    parser.add_argument("--seeds", type=int, default=SEEDS)
    parser.add_argument("--sleepers", action="store_true", help="only the table of sleepers")
    parser.add_argument("--workers", type=int, default=os.cpu_count(), help="processes")


def main() -> None:
    """Print the tables."""
    args = arguments(__doc__ or "", _more, data=True)
    found = work(all_jobs(args), args.workers)
    figures: dict[str, float] = {}
    if not args.sleepers:
        figures |= honest(found)
        print()
        figures |= attacked(found)
        print()
    finish("trust", figures | woken(found), args.json)


if __name__ == "__main__":
    main()
