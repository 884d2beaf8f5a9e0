# SPDX-License-Identifier: Apache-2.0
"""What the federations of `attacks.py` come to: ratios, means over the seeds, tables and figures."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from _common import table  # isort: skip  # sets the BLAS threads first

import numpy as np
from numpy.typing import NDArray

REFUSED = "not_finite"  # at decode: the hostile sites are as good as absent
DEFAULT = "nnm + trimmed mean + trust"
ERRORS = ("liion",)  # sets whose score is an error: less is better
CALM = {"lying_losses": ("honest_away", "refused_away"), "claims_late": ("honest_late", "refused_late")}
BESIDE = {"honest", *(name for pair in CALM.values() for name in pair)}  # no attacks: what those are compared with


class Job(NamedTuple):
    """One federation to simulate."""

    set: str
    rule: str
    attack: str
    share: float
    seed: int
    data: Path


class Found(NamedTuple):
    """What became of one federation; scores are means over the honest sites."""

    score: float  # of the release
    backdoor: float  # its success
    served: float  # what decides at the sites: the tuned release with each site's own model
    better: float  # at each site the better of its own model and the attacked release, tuned


NOTHING = Found(*[float("nan")] * 4)


class Results:
    """Scores of all federations, as ratios and means over seeds."""

    def __init__(self, found: Mapping[Job, Found]) -> None:
        self._found = {tuple(j)[:5]: v for j, v in found.items()}
        self.sets = list(dict.fromkeys(job.set for job in found))
        self.rules = list(dict.fromkeys(job.rule for job in found))
        self.attacks = list(dict.fromkeys(job.attack for job in found))
        self.shares = list(dict.fromkeys(job.share for job in found))
        self.seeds = list(dict.fromkeys(job.seed for job in found))

    def _scores(self, s: str, rule: str, attack: str, share: float) -> NDArray[np.float64]:
        """Return the score of each seed; NaN where it was not measured."""
        cells = [self._found.get((s, rule, attack, share, seed), NOTHING) for seed in self.seeds]
        return np.array([one.score for one in cells])

    def _ratios(self, s: str, rule: str, attack: str, beside: tuple[str, str], share: float) -> NDArray[np.float64]:
        """Return each seed's score over another rule's and attack's of the same seed, so that less is worse."""
        scores, others = self._scores(s, rule, attack, share), self._scores(s, *beside, share)
        return others / scores if s in ERRORS else scores / others

    def score(self, s: str, rule: str, attack: str, share: float) -> float:
        """Return the mean score."""
        return _mean(self._scores(s, rule, attack, share))

    def success(self, s: str, rule: str, share: float) -> float:
        """Return the mean success of the backdoor."""
        cells = [self._found.get((s, rule, "backdoor", share, seed), NOTHING) for seed in self.seeds]
        return _mean(np.array([one.backdoor for one in cells]))

    def kept(self, s: str, rule: str, attack: str, share: float) -> float:
        """Return the score under an attack over the score without."""
        return _mean(self._ratios(s, rule, attack, (rule, CALM.get(attack, ("honest", REFUSED))[0]), share))

    def left(self, s: str, rule: str, attack: str, share: float) -> float:
        """Return the score under an attack over the score with the hostile updates refused: no defence reaches more."""
        return _mean(self.each_left(s, rule, attack, share))

    def each_left(self, s: str, rule: str, attack: str, share: float) -> NDArray[np.float64]:
        """Return the same for each seed."""
        return self._ratios(s, rule, attack, (rule, CALM.get(attack, ("honest", REFUSED))[1]), share)

    def serving(self, s: str, rule: str, attack: str, share: float) -> float:
        """Return what decides at honest sites over the better of their own models and the attacked release."""
        found = [self._found.get((s, rule, attack, share, seed), NOTHING) for seed in self.seeds]
        served, better = (np.array([getattr(one, k) for one in found]) for k in ("served", "better"))
        return _mean(better / served if s in ERRORS else served / better)

    def worst_serving(self, rule: str, share: float) -> tuple[float, str, str]:
        """Return the smallest of those of all attacks and sets, and where it is."""
        pairs = [(s, a) for s in self.sets for a in self.attacks if a not in (REFUSED, "refused_away", "refused_late")]
        found = [(self.serving(s, rule, a, share), a, s) for s, a in pairs]
        return min((f for f in found if np.isfinite(f[0])), default=(float("nan"), "", ""))

    def cost(self, s: str, rule: str) -> float:
        """Return the score without an attack over FedAvg's."""
        return _mean(self._ratios(s, rule, "honest", ("fedavg", "honest"), self.shares[0]))

    def worst(self, rule: str, share: float, left: bool = False) -> tuple[float, str, str]:
        """Return the smallest kept score of all attacks and sets, and where it is."""
        pairs = [(s, a) for s in self.sets for a in self.attacks if a not in (*BESIDE, REFUSED)]
        ratio = self.left if left else self.kept
        found = [(ratio(s, rule, a, share), a, s) for s, a in pairs]
        return min((f for f in found if np.isfinite(f[0])), default=(float("nan"), "", ""))

    def error(self, rule: str, share: float) -> float:
        """Return the standard error over the seeds of the worst of what is left."""
        _, attack, s = self.worst(rule, share, left=True)
        each = self.each_left(s, rule, attack, share)
        each = each[np.isfinite(each)]
        return float(each.std(ddof=1) / len(each) ** 0.5) if len(each) > 1 else float("nan")


def _mean(values: NDArray[np.float64]) -> float:
    """The mean of what was measured."""
    known = values[np.isfinite(values)]
    return float(known.mean()) if len(known) else float("nan")


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
            cells += [_with_error(results, rule, share) for share in results.shares]
        cells += [f"{w:.3f} ({a}, {s})" for w, a, s in (results.worst_serving(rule, share) for share in results.shares)]
        rows.append([rule, *cells, f"{min(costs):.3f}", f"{np.mean(costs):.3f}"])
    header = ["rule", *(f"kept at {s:.0%}" for s in results.shares)]
    header += [f"of what is left at {s:.0%}" for s in results.shares] if REFUSED in results.attacks else []
    header += [f"serving kept at {s:.0%}" for s in results.shares]
    table([*header, "cost, worst set", "mean"], rows)


def _with_error(results: Results, rule: str, share: float) -> str:
    value, attack, s = results.worst(rule, share, left=True)
    return f"{value:.3f} ± {results.error(rule, share):.3f} ({attack}, {s})"


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
                out[f"worst_of_left_{share * 100:.0f}_error"] = results.error(DEFAULT, share)
            out["worst_kept_of_what_is_left"] = results.worst(DEFAULT, results.shares[0], left=True)[0]
        if "fedavg" in results.rules:
            out["no_attack_cost"] = min(results.cost(s, DEFAULT) for s in results.sets)
    return out
