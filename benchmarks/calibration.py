# SPDX-License-Identifier: Apache-2.0
"""Do a classifier's probabilities fit a site better once they are calibrated on what the site holds back?

What serves at each site is the tuned release with the site's own model. Ways are fitted to held-back data (whole units
where the set names some) and judged twice: on held-back rows that they were not fitted on (by this the way and its
prior were chosen; training part only), and on the test part (reported). Held-back rows are taken in ten stretches, as
the sets do not say which unit a row is of. Where all of them are of one module or run, a gateway calibrates nothing.
Means over sites and seeds. A set whose test part is another site (mfpt) is judged on its last fifth.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

from _common import arguments, finish, table  # isort: skip  # sets the BLAS threads first

import numpy as np
from fedge_agent.learning.calibrate import LEAST_OF_CLASS, LEAST_UNITS, Calibrated, choose
from fedge_fleet.data.held_back import holding_back
from fedge_fleet.data.problems.problem import Problem
from fedge_fleet.data.problems.registry import SETS
from fedge_fleet.data.site_data import Windows, standardised
from fedge_fleet.simulate import baselines
from fedge_fleet.simulate.champions import champions
from fedge_models.graph.trainable import TrainableGraph
from fedge_models.training import calibration
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Labels = NDArray[np.int64]
Way = Callable[[Floats, Labels], Callable[[Floats], Floats]]  # held-back logits, labels -> what calibrates

PARTS = 10
UNITS = {"ai4i": 10, "xsdd": 10}  # that held-back rows are of, about; elsewhere one module or run
OF_CLASSES = ("ai4i", "fan", "mfpt", "elpv", "xsdd")
HEADER = ["set", "way", "taken", "held-back log-loss", "log-loss", "worst site", "ECE", "accuracy", "macro-F1"]


class Judged(NamedTuple):
    """One way at one site."""

    held: float  # log-loss of held-back rows that it was not fitted on
    test: float
    change: float  # of the test part's log-loss
    error: float
    accuracy: float
    macro_f1: float
    taken: float = 1.0


def measure(problem: Problem, seeds: int) -> dict[str, list[Judged]]:
    """Return what each way is worth at each site and seed."""
    if problem.unseen:
        problem = replace(problem, sites={n: _last_fifth(s) for n, s in problem.sites.items()}, validation={})
    problem, found = holding_back(problem), dict[str, list[Judged]]()
    for seed in range(seeds):
        sites = {n: standardised(s, problem.card) for n, s in problem.sites.items()}
        graph = TrainableGraph.load(problem.model(seed))
        start = graph.params.copy()
        made = baselines.federated(graph, start, sites, problem.plan, seed)
        models = champions(graph, start, made, sites, problem.plan, seed)
        for name, site in sites.items():
            logits = models[name].serves.predict(site.x).astype(np.float64)
            known, y = site.y >= 0, site.y.astype(np.int64)
            held, test = site.held & ~site.test & known, site.test & known
            units = UNITS.get(problem.name, 1)
            for way, judged in judge(logits[held], y[held], logits[test], y[test], units).items():
                found.setdefault(way, []).append(judged)
    return found


def _last_fifth(site: Windows) -> Windows:
    """Take the last fifth of each class as the test part."""
    test = np.zeros(len(site.y), np.bool_)
    for c in np.unique(site.y):
        rows = np.flatnonzero(site.y == c)
        test[rows[len(rows) - len(rows) // 5 :]] = True
    return replace(site, test=test)


def judge(held: Floats, of_held: Labels, test: Floats, of_test: Labels, units: int) -> dict[str, Judged]:
    """Judge all ways by logits and labels of one site, and what a gateway chooses with so many held-back units."""
    found = {}
    for name, way in WAYS.items():
        unseen = held.copy()
        part = _parts(held)
        for i in np.unique(part):
            unseen[part == i] = way(held[part != i], of_held[part != i])(held[part == i])
        found[name] = _judged(unseen, of_held, way(held, of_held)(test), test, of_test)
    chosen = choose(held, of_held, _parts(held)) if units >= LEAST_UNITS else Calibrated()
    by = chosen.calibration or calibration.Calibration(1.0, np.zeros(held.shape[1]))
    made = _judged(held, of_held, by.applied(test), test, of_test)._replace(taken=float(chosen.calibration is not None))
    found["as gateways choose"] = made if chosen.judged is None else made._replace(held=chosen.judged.log_loss[1])
    return found


def _parts(rows: Floats) -> Labels:
    return np.arange(len(rows)) * PARTS // max(1, len(rows))


def _judged(unseen: Floats, of_held: Labels, made: Floats, test: Floats, of_test: Labels) -> Judged:
    before, after = (float(calibration.row_losses(z, of_test).mean()) for z in (test, made))
    right = made.argmax(axis=1)
    f1 = [
        2 * ((right == c) & (of_test == c)).sum() / ((right == c).sum() + (of_test == c).sum())
        for c in np.unique(of_test)
    ]
    return Judged(
        float(calibration.row_losses(unseen, of_held).mean()),
        after,
        after - before,
        calibration.error(made, of_test),
        float((right == of_test).mean()),
        float(np.mean(f1)),
    )


def _none(_: Floats, __: Labels) -> Callable[[Floats], Floats]:
    return lambda logits: logits


def _temperature(logits: Floats, labels: Labels) -> Callable[[Floats], Floats]:
    found = calibration.fit(logits, labels, np.zeros(logits.shape[1], np.bool_))
    return found.applied


def _biases(logits: Floats, labels: Labels) -> Callable[[Floats], Floats]:
    found = calibration.fit(logits, labels, np.bincount(labels, minlength=logits.shape[1]) >= LEAST_OF_CLASS)
    return found.applied


def _isotonic(logits: Floats, labels: Labels) -> Callable[[Floats], Floats]:
    """A monotone step for each class (Zadrozny & Elkan 2002), with one sample more of each."""
    p = _probabilities(logits)
    steps = [_monotone(p[:, c], labels == c) for c in range(p.shape[1])]

    def calibrated(other: Floats) -> Floats:
        q = _probabilities(other)
        made = np.stack([np.interp(q[:, c], *step) for c, step in enumerate(steps)], axis=1) + 1 / (len(labels) + 2)
        found: Floats = np.log(made / made.sum(axis=1, keepdims=True))
        return found

    return calibrated


def _monotone(scores: Floats, right: NDArray[np.bool_]) -> tuple[Floats, Floats]:
    """Scores in order, and the best non-decreasing shares at them (pool adjacent violators)."""
    order = np.argsort(scores, kind="stable")
    blocks: list[tuple[float, int]] = []  # mean, rows
    for value in right[order].astype(float):
        mean, rows = value, 1
        while blocks and blocks[-1][0] > mean:
            last, n = blocks.pop()
            mean, rows = (mean * rows + last * n) / (rows + n), rows + n
        blocks.append((mean, rows))
    return scores[order], np.concatenate([np.full(n, mean) for mean, n in blocks])


def _probabilities(logits: Floats) -> Floats:
    found: Floats = np.exp(logits - np.logaddexp.reduce(logits, axis=1, keepdims=True))
    return found


WAYS: dict[str, Way] = {
    "none": _none,
    "temperature": _temperature,
    "temperature and biases": _biases,
    "isotonic": _isotonic,
}


def rows(name: str, found: dict[str, list[Judged]]) -> tuple[list[list[str]], dict[str, float]]:
    """Return the rows of the table and the figures of one set."""
    lines: list[list[str]] = []
    figures: dict[str, float] = {}
    for way, sites in found.items():
        held, test, _, error, accuracy, f1, taken = np.array(sites).mean(axis=0)
        worst = max(site.change for site in sites)
        line = [name, way, f"{taken:.2f}", f"{held:.4f}", f"{test:.4f}", f"{worst:+.4f}", f"{error:.4f}"]
        lines.append([*line, f"{accuracy:.4f}", f"{f1:.4f}"])
        key = f"{name}_{way.replace(' ', '_')}"
        figures |= {f"{key}_log_loss": test, f"{key}_ece": error, f"{key}_accuracy": accuracy}
    return lines, figures


def _more(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--set", action="append", choices=OF_CLASSES, help="only this set; may be repeated")


def main() -> None:
    """Print the table."""
    args = arguments((__doc__ or "").partition("\n")[0], _more, data=True)
    lines: list[list[str]] = []
    figures: dict[str, float] = {}
    for name in args.set or OF_CLASSES:
        seeds = 1 if args.quick or name in ("elpv", "xsdd") else 3  # of the two a run takes minutes
        more, found = rows(name, measure(SETS[name](args.data), seeds))
        lines += more
        figures |= found
    table(HEADER, lines)
    finish("calibration", figures, args.json)


if __name__ == "__main__":
    main()
