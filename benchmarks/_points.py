# SPDX-License-Identifier: Apache-2.0
"""SKAB second by second, as its own leaderboard judges: F1, share of false alarms (FAR) and of missed ones (MAR).

Every row of an experiment after its first 400 gets the decision of the newest window that ended by then, which is what
a gateway shows in that second; before the first window of a stretch without a gap there is no alarm. Rows of all
experiments are counted together. The limit is the gateway's (`fedge_agent.learning.limits`), by site, from the normal
windows that its model may learn from; it is chosen by nothing that is judged. `when` of an alarm is not applied.

`skab`: each of the 25 experiments is a site that knows its own first 400 rows, the set's own protocol. `skab_held_out`:
the three plants of `accuracy.py`, judged on experiments that nobody learnt from. Beside them Hotelling's T² of single
rows, by the first 400 rows of each experiment: what a control chart without a model gets on the same rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
from fedge_agent.learning import limits
from fedge_agent.learning.mixture import Blend
from fedge_agent.learning.training import Data, usable
from fedge_agent.windows.features import Preparation
from fedge_fleet.data import recordings
from fedge_fleet.data.held_back import holding_back
from fedge_fleet.data.problems.problem import Problem
from fedge_fleet.data.problems.water import skab, skab_experiments
from fedge_fleet.data.recordings import Track
from fedge_fleet.data.site_data import Windows, pooled, standardised
from fedge_fleet.simulate import baselines
from fedge_fleet.simulate.champions import champions
from fedge_models.graph.card import Card
from fedge_models.graph.trainable import TrainableGraph
from fedge_models.training import standardise
from fedge_models.training.losses import row_errors
from numpy.typing import NDArray

FITTED = 400  # rows of an experiment that may be learnt from
MODELS = ("own", "federated", "central", "serves")
F_LIMIT = 3.3505  # 0.999 quantile of F with 8 and 392 degrees of freedom
MEDIAN_OF = 5  # rows whose median is compared: one wild row is no alarm
HEADER = ["SKAB, point by point", "model", "F1", "± over seeds", "FAR, %", "MAR, %"]
Bools = NDArray[np.bool_]
Floats = NDArray[np.float32]


class Counts(NamedTuple):
    """Rows by what was said and what was so."""

    hits: int
    false: int
    missed: int
    quiet: int  # rightly

    def figures(self) -> dict[str, float]:
        """F1; FAR and MAR in percent."""
        return {
            "f1": 2 * self.hits / max(1, 2 * self.hits + self.false + self.missed),
            "far": 100 * self.false / max(1, self.false + self.quiet),
            "mar": 100 * self.missed / max(1, self.missed + self.hits),
        }


def counted(pairs: Iterable[tuple[Bools, Bools]]) -> Counts:
    """Count rows of recordings together; pairs: alarms and faults (n,) of each."""
    total = np.zeros(4, np.int64)
    for alarm, fault in pairs:
        total += [int(part.sum()) for part in (alarm & fault, alarm & ~fault, ~alarm & fault, ~alarm & ~fault)]
    return Counts(*total.tolist())


def alarms(blend: Blend, scale: standardise.Scale, limit: float, track: Track) -> Bools:
    """Whether each row (n,) of a recording alarms."""
    card, spec = blend.card, blend.card.window
    found = np.zeros(track.values.shape[1], np.bool_)
    for start, stop in track.segments:
        ends = np.arange(start + spec.length, stop + 1, spec.hop)
        if not len(ends):
            continue
        x = scale(Preparation(card)(np.stack([track.values[:, end - spec.length : end] for end in ends])))
        above = row_errors(blend.predict(x), x) > limit
        rows = np.arange(ends[0] - 1, stop)
        found[rows] = above[np.searchsorted(ends - 1, rows, side="right") - 1]
    return found


class Set(NamedTuple):
    """A federation and the recordings that it is judged on, by site."""

    name: str
    problem: Problem
    tracks: Mapping[str, list[Track]]


def sets(data: Path) -> list[Set]:
    """The set's own protocol, and whole experiments held out at three plants."""
    tracks, plants = recordings.skab_experiments(data / "skab"), skab(data)
    held_out = {
        plant: [t for name, t in tracks.items() if name.startswith(plant) and (t.part == 1).all()]
        for plant in plants.sites
    }
    own_rows = {name: [track] for name, track in tracks.items()}
    return [Set("skab", skab_experiments(data), own_rows), Set("skab_held_out", plants, held_out)]


def measure(what: Set, seed: int) -> dict[str, Counts]:
    """Count what each model says at its site."""
    problem = what.problem
    graph = TrainableGraph.load(problem.model(seed))
    start = graph.params.copy()
    sites = {n: standardised(s, problem.card) for n, s in problem.sites.items()}
    own = {n: baselines.alone(graph, start, s, problem.alone, seed) for n, s in sites.items()}
    fed = baselines.federated(graph, start, sites, problem.plan, seed)
    central = baselines.alone(graph, start, pooled(sites), problem.central, seed)
    serves = _serving(problem, graph, start, seed)
    blends: Mapping[str, Callable[[str], Blend]] = {
        "own": lambda n: Blend(graph, own[n]),
        "federated": lambda n: Blend(graph, fed.at(n)),
        "central": lambda n: Blend(graph, central),
        "serves": serves.__getitem__,
    }
    return {model: counted(_judged(what, sites, at, model == "serves")) for model, at in blends.items()}


def _serving(problem: Problem, graph: TrainableGraph, start: Floats, seed: int) -> dict[str, Blend]:
    """What serves at each site, chosen by a part of its training windows that nobody trains on."""
    problem = holding_back(problem)
    sites = {n: standardised(s, problem.card) for n, s in problem.sites.items()}
    graph.set_params(start)
    made = baselines.federated(graph, start, sites, problem.plan, seed)
    return {n: model.serves for n, model in champions(graph, start, made, sites, problem.plan, seed).items()}


def _judged(
    what: Set, sites: Mapping[str, Windows], at: Callable[[str], Blend], back: bool
) -> Iterable[tuple[Bools, Bools]]:
    """Yield alarms and faults of the judged rows of each recording; back: some windows were held back."""
    card, held = what.problem.card, holding_back(what.problem).sites
    for name, site in sites.items():
        blend = at(name)
        scale = standardise.fit(_normal(what.problem.sites[name]), card)
        marked = replace(site, held=held[name].held) if back else site
        parts = (_windows(card, marked, True), _windows(card, marked, False))
        limit = limits.threshold(blend, *parts).score
        for track in what.tracks[name]:
            yield alarms(blend, scale, limit, track)[FITTED:], track.label[FITTED:] == 1


def _normal(site: Windows) -> Floats:
    found: Floats = site.x[~site.test & (site.y == 0)]
    return found


def _windows(card: Card, site: Windows, held: bool) -> Data:
    """The normal windows that are held back, or learnt from, with what no earlier one covers of each."""
    keep = ~site.test & (site.held == held)
    found = usable(card.task, Data(site.x[keep], site.y[keep]), labelled=True)
    return found._replace(shares=np.full(len(found.x), min(1.0, card.window.hop / card.window.length)))


def hotelling(tracks: Iterable[Track]) -> Counts:
    """Count what T² of single rows says, by the mean and covariance of a recording's first 400 rows."""
    return counted((_unusual(t.values.T.astype(np.float64))[FITTED:], t.label[FITTED:] == 1) for t in tracks)


def _unusual(rows: NDArray[np.float64]) -> Bools:
    fitted, n, m = rows[:FITTED], FITTED, rows.shape[1]
    away = rows - fitted.mean(axis=0)
    squares = np.einsum("ij,jk,ik->i", away, np.linalg.inv(np.cov(fitted.T)), away)
    smooth = np.array([np.median(squares[max(0, i + 1 - MEDIAN_OF) : i + 1]) for i in range(len(squares))])
    found: Bools = smooth > m * (n - 1) * (n + 1) / (n * (n - m)) * F_LIMIT
    return found


def rows(data: Path, seeds: int) -> tuple[list[list[str]], dict[str, float]]:
    """Return the rows of the table and the figures of all models."""
    lines: list[list[str]] = []
    figures: dict[str, float] = {}
    for what in sets(data):
        runs = [measure(what, seed) for seed in range(seeds)]
        for model in MODELS:
            each = [run[model].figures() for run in runs]
            mean = {k: float(np.mean([f[k] for f in each])) for k in each[0]}
            error = float(np.std([f["f1"] for f in each], ddof=1) / len(each) ** 0.5) if len(each) > 1 else np.nan
            key = what.name if model == "serves" else f"{what.name}_{model}"
            figures |= {f"{key}_{k}": v for k, v in mean.items()} | {f"{key}_f1_error": error}
            shown = (f"{mean['f1']:.3f}", f"{error:.3f}", f"{mean['far']:.1f}", f"{mean['mar']:.1f}")
            lines.append([what.name, model, *shown])
        judged = [track for of_site in what.tracks.values() for track in of_site]
        found = hotelling(judged).figures()
        figures |= {f"{what.name}_hotelling_{k}": v for k, v in found.items()}
        lines.append([what.name, "T² of rows", f"{found['f1']:.3f}", "", f"{found['far']:.1f}", f"{found['mar']:.1f}"])
        faults = np.concatenate([track.label[FITTED:] == 1 for track in judged])
        figures |= {f"{what.name}_points": float(len(faults)), f"{what.name}_faulty_points": float(faults.sum())}
    return lines, figures
