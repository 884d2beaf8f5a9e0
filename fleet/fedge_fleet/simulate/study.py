# SPDX-License-Identifier: Apache-2.0
"""The figures of a comparison: what each site gains, what attacks leave, what rules and rounds cost. Pure.

Gains are positive where a model is better, of errors too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from fedge_models.graph.card import Card

from .bench import HONEST, Found, Judged, Lines
from .estimate import FEW, Estimate, estimate, unseen
from .production import Difference
from .rule_choice import UNPROTECTED

Key = tuple[str, str, int, int]
OWN = "own data"  # the name of a study that is not of a set
MOST_OF_IT = 0.95  # of what the rounds gain
DAY = 24  # rounds a day at the gateway's default interval of an hour


class SiteFigures(NamedTuple):
    """Means over the seeds of one site; NaN where it cannot be judged."""

    name: str
    alone: float
    together: float  # what serves
    release: float  # the release by itself
    pooled: float
    gain: Estimate
    train: int
    test: int

    @property
    def gains(self) -> bool:
        """Whether it clearly gains: beyond the error, and judged by enough samples."""
        return self.test >= FEW and self.gain.above()

    @property
    def loses(self) -> bool:
        """Whether it clearly loses."""
        return self.test >= FEW and self.gain.below()


class Attacked(NamedTuple):
    """What an attack leaves the honest sites, as means over the seeds."""

    rule: str
    attack: str
    hostile: int
    left: float  # what serves
    release: float  # the release by itself
    calm: float  # what serves at the same sites where nobody attacks
    alone: float
    gain: Estimate  # of what is left over being alone
    backdoor: float
    caught: float  # share of the hostile sites that trust has quarantined


@dataclass(frozen=True)
class Study:
    """Everything that was run, and how to read it."""

    name: str
    card: Card
    metric: str
    sites: tuple[str, ...]
    seeds: tuple[int, ...]
    rules: tuple[str, ...]  # the run's own first
    attacks: tuple[str, ...]
    hostile: tuple[int, ...]  # numbers of hostile sites
    lines: Mapping[int, Lines]
    found: Mapping[Key, Found]
    rounds: int
    parameters: int
    model_bytes: int
    fresh: bool  # whether each seed holds other data back
    planted: bool  # whether the anomalies are planted
    units: Mapping[str, str]  # what is held back at each site
    left_out: Mapping[str, int]
    notes: tuple[str, ...]
    differences: tuple[Difference, ...]
    describe: Mapping[str, str]  # what each rule is, in words
    holds: Mapping[str, int]  # against how many hostile sites of these each rule holds by itself
    own_attack: tuple[str, int] = (HONEST, 0)  # of the settings, with its number of hostile sites

    @property
    def is_error(self) -> bool:
        """Whether the score is an error: less is better."""
        return self.metric == "rmse"

    @property
    def main(self) -> str:
        """The run's own rule."""
        return self.rules[0]

    def better(self, one: float, other: float) -> float:
        """By how much one score is better than another."""
        return other - one if self.is_error else one - other

    @property
    def overlap(self) -> float:
        """Test samples over training samples, where the seeds draw both from the same data."""
        if not self.fresh:
            return 0.0
        first = self.lines[self.seeds[0]]
        return sum(first.test.values()) / max(1, sum(first.train.values()))

    def estimated(self, at: Callable[[int], float]) -> Estimate:
        """The mean over the seeds, with its error."""
        return estimate([at(seed) for seed in self.seeds], self.overlap)

    def difference_of(self, at: Callable[[int], float], sites: Sequence[str]) -> Estimate:
        """The mean over the seeds of a difference of scores at some sites, with its error."""
        return self.estimated(at).at_least(self._unseen(sites))

    def _unseen(self, sites: Iterable[str]) -> float:
        """The difference that the test samples of sites cannot show. Unknown of an error, which has a unit: 0."""
        if self.is_error:
            return 0.0
        first = self.lines[self.seeds[0]]
        judged = [first.test[n] for n in sites if n in first.alone.sites]
        return unseen(judged or [sum(first.test.values())])

    def calm(self, rule: str, seed: int) -> Found:
        """What became of a rule where nobody attacks."""
        return self.found[rule, HONEST, 0, seed]

    def own_run(self, seed: int) -> Found:
        """The run's own rule, with its hostile sites if it has any."""
        return self.found[self.main, self.own_attack[0], self.own_attack[1], seed]

    def runs(self, rule: str) -> bool:
        """Whether the rule runs with so many sites."""
        return not self.calm(rule, self.seeds[0]).failed

    def gain(self, rule: str) -> Estimate:
        """What a rule gains over being alone, over all sites."""
        return self.difference_of(
            lambda s: self.better(self.calm(rule, s).serves.overall, self.lines[s].alone.overall), self.sites
        )

    def gain_at(self, rule: str, sites: Sequence[str]) -> Estimate:
        """What a rule gains over being alone, as a mean over some sites that can be judged."""

        def mean(seed: int) -> float:
            serves, alone = self.calm(rule, seed).serves.sites, self.lines[seed].alone.sites
            gains = [self.better(serves[n], alone[n]) for n in sites if n in serves and n in alone]
            return float(np.mean(gains)) if gains else float("nan")

        return self.difference_of(mean, sites)

    def score(self, rule: str) -> float:
        """What serves under a rule, over all sites."""
        return self.estimated(lambda s: self.calm(rule, s).serves.overall).mean

    def alone(self) -> float:
        """Each site alone, over all sites."""
        return self.estimated(lambda s: self.lines[s].alone.overall).mean

    def pooled(self) -> float:
        """All data in one place, over all sites."""
        return self.estimated(lambda s: self.lines[s].pooled.overall).mean

    def difference(self, rule: str, other: str) -> Estimate:
        """By how much one rule is better than another where nobody attacks."""
        return self.difference_of(
            lambda s: self.better(self.calm(rule, s).serves.overall, self.calm(other, s).serves.overall), self.sites
        )

    def price(self) -> Estimate | None:
        """What the run's own rule gives up against FedAvg without trust; None where that was not run."""
        if UNPROTECTED not in self.rules or self.main == UNPROTECTED or not self.runs(UNPROTECTED):
            return None
        found = self.difference(self.main, UNPROTECTED)
        return Estimate(-found.mean, found.error)

    def site_figures(self) -> list[SiteFigures]:
        """The sites under the run's own rule, those that gain most first and those that cannot be judged last."""
        found = [self._site(name) for name in self.sites]
        return sorted(found, key=lambda f: -f.gain.mean if np.isfinite(f.gain.mean) else float("inf"))

    def _site(self, name: str) -> SiteFigures:
        def mean(at: Callable[[int], Judged]) -> float:
            return self.estimated(lambda s: at(s).sites.get(name, float("nan"))).mean

        gain = self.difference_of(
            lambda s: self.better(
                self.calm(self.main, s).serves.sites.get(name, float("nan")),
                self.lines[s].alone.sites.get(name, float("nan")),
            ),
            [name],
        )
        first = self.lines[self.seeds[0]]
        return SiteFigures(
            name,
            mean(lambda s: self.lines[s].alone),
            mean(lambda s: self.calm(self.main, s).serves),
            mean(lambda s: self.calm(self.main, s).release),
            mean(lambda s: self.lines[s].pooled),
            gain,
            first.train[name],
            first.test[name],
        )

    def attacked(self, rule: str, attack: str, hostile: int) -> Attacked | None:
        """What an attack leaves under a rule; None where it was not run, or with no seed an honest site is judged."""
        ran = self._attacked_runs(rule, attack, hostile)

        def of(judged: Judged, seed: int) -> float:
            """The mean over the sites that are honest in this run; NaN where none of them can be judged."""
            sites = ran[seed].serves.sites
            kept = [v for n, v in judged.sites.items() if n in sites]
            return float(np.nanmean(kept)) if kept else float("nan") if judged.sites else judged.overall

        runs = {s: f for s, f in ran.items() if np.isfinite(of(f.serves, s) - of(self.lines[s].alone, s))}
        if not runs:
            return None

        def mean(at: Callable[[int], float]) -> float:
            return estimate([at(s) for s in runs], 0).mean

        gain = estimate(
            [self.better(of(f.serves, s), of(self.lines[s].alone, s)) for s, f in runs.items()], self.overlap
        ).at_least(max(self._unseen(f.serves.sites) for f in runs.values()))
        return Attacked(
            rule,
            attack,
            hostile,
            mean(lambda s: of(runs[s].serves, s)),
            mean(lambda s: of(runs[s].release, s)),
            mean(lambda s: of(self.calm(rule, s).serves, s)),
            mean(lambda s: of(self.lines[s].alone, s)),
            gain,
            mean(lambda s: runs[s].backdoor),
            mean(lambda s: len({*runs[s].quarantined} & {*runs[s].hostile}) / max(1, len(runs[s].hostile))),
        )

    def _attacked_runs(self, rule: str, attack: str, hostile: int) -> dict[int, Found]:
        """The runs of an attack under a rule, by seed."""
        return {s: f for s in self.seeds if (f := self.found.get((rule, attack, hostile, s))) and not f.failed}

    def not_judged(self) -> list[str]:
        """Attacks that were run, and by which no honest site is judged under any rule."""
        ran = [
            (a, k) for k in self.hostile for a in self.attacks if any(self._attacked_runs(r, a, k) for r in self.rules)
        ]
        return [f"{a}, {k} hostile" for a, k in ran if all(self.attacked(r, a, k) is None for r in self.rules)]

    def all_attacked(self, rule: str) -> list[Attacked]:
        """What every attack leaves under a rule."""
        found = [self.attacked(rule, a, k) for k in self.hostile for a in self.attacks]
        return [f for f in found if f is not None]

    def worst(self, rule: str) -> Attacked | None:
        """The attack that leaves least over being alone."""
        return min(self.all_attacked(rule), key=lambda f: f.gain.mean, default=None)

    def failed(self) -> dict[str, str]:
        """Rules and attacks that cannot be run, and why."""
        found = {}
        for (rule, attack, _, _), result in self.found.items():
            if result.failed:
                found[rule if attack == HONEST else f"{attack} under {rule}"] = result.failed
        return found

    def history(self, rule: str) -> list[tuple[int, float]]:
        """The release's mean score after each round."""
        rows = [self.calm(rule, s).history for s in self.seeds]
        return [(row[0][0], float(np.mean([score for _, score in row]))) for row in zip(*rows, strict=True)]

    def rounds_needed(self) -> int | None:
        """The round after which most of what the rounds gain was there; None where they gain nothing."""
        points = self.history(self.main)
        values = [self.better(v, points[0][1]) for _, v in points]
        best = max(values, default=0.0)
        if not best > 0:
            return None
        return next(n for (n, _), v in zip(points, values, strict=True) if v >= MOST_OF_IT * best)

    def bytes_a_round(self) -> tuple[float, float]:
        """Bytes that a site sends and gets in a round."""
        found = [self.calm(self.main, s) for s in self.seeds]
        sent = max(1, sum(sum(f.counts.values()) for f in found))
        return sum(f.bytes_up for f in found) / sent, sum(f.bytes_down for f in found) / (self.rounds * len(found))

    def judged_with(self) -> dict[str, int]:
        """With how many seeds a site can be judged, where that is not all of them."""
        found: dict[str, int] = {}
        for name in self.sites:
            scores = [self.calm(self.main, s).serves.sites.get(name, float("nan")) for s in self.seeds]
            count = int(np.isfinite(scores).sum())
            found |= {name: count} if count < len(scores) else {}
        return found

    def judged(self) -> bool:
        """Whether there is anything that the models can be judged by."""
        return bool(np.isfinite(self.gain(self.main).mean))


def hostile_numbers(shares: Sequence[float], sites: int) -> tuple[int, ...]:
    """How many sites are hostile for each share: rounded down, one at least, and never all but one."""
    found = {max(1, min(int(share * sites + 1e-9), sites - 2)) for share in shares}
    return tuple(sorted(k for k in found if sites - k >= 2))
