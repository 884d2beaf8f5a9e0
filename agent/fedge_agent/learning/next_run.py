# SPDX-License-Identifier: Apache-2.0
"""Make room in an anomaly model's limit for a run that it was not made from. Pure.

The promise of a limit is about the next run, whose level differs from that of those before.

- Of `ENOUGH_RUNS` runs or more the spread of levels between them is known. The limit is then the prediction limit of
  one more run (Student's t; degrees of freedom after Satterthwaite 1946): that spread, and the scores within a run.
- Of fewer it is not. Then `unseen` says by how much windows score higher that the standardisation was not fitted to:
  of little time it fits that time too well. What is left is for the run at hand to show (`machines.run_limit`).

Neither raises a limit above `MOST` times what the oldest windows alone give: otherwise runs of which each is a little
worse than the one before would raise it without end.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from statistics import NormalDist
from typing import NamedTuple

import numpy as np
from fedge_models.graph.card import Card
from fedge_models.training import extremes, standardise
from numpy.typing import NDArray

from ..types import Array
from .training import Data

ENOUGH_RUNS = 3  # fewer show no spread
MOST = 4.0
APART = 2.0  # windows that share no samples; a shorter run shows no level
BLOCKS = 5  # of a run, of which each is left out of the standardisation once
LEAST_SHARE = 0.2  # of all samples; the standardisation hardly depends on a machine with less
LEAST_FIT = 10  # windows that a standardisation is fitted to
LEAST = 1e-12
FARTHEST_LOG = 700.0  # no float holds the score of a higher logarithm
ALONE = 10.0  # windows that share no samples, that show what the oldest of a machine alone give
LEAST_NORMAL = 0.5  # a quantile nearer to the median says nothing of a tail

Floats = NDArray[np.floating]


class Run(NamedTuple):
    """The scores (n,) of a run, and how many windows that share no samples they are worth."""

    scores: Floats
    apart: float

    def limit(self, q: float) -> float:
        """The limit that this run alone gives."""
        counted, middle = float(np.quantile(self.scores, q)), float(np.median(self.scores))
        return extremes.promised(counted, middle, q, self.apart)


def runs(scores: Floats, units: NDArray[np.int64], shares: Floats) -> list[Run]:
    """The runs that are long enough, oldest first, of scores (n,) by unit. shares: see `Data`.

    A run of a machine that idles, with scores of 0, shows no level.
    """
    of_units = [units == unit for unit in np.unique(units)]
    found = [Run(scores[mine], float(shares[mine].sum())) for mine in of_units]
    return [run for run in found if run.apart >= APART and np.median(run.scores) > LEAST]


def oldest(by_run: Sequence[Run]) -> Run:
    """The oldest runs, together as many as are worth `ALONE` windows that share no samples: of fewer, nothing can be
    said of a tail, and what they give is far above all that follows."""
    scores: list[Floats] = []
    apart = 0.0
    for run in by_run:
        scores, apart = [*scores, run.scores], apart + run.apart
        if apart >= ALONE:
            break
    return Run(np.concatenate(scores), apart)


def prediction(by_run: Sequence[Floats], apart: float, q: float) -> float:
    """The score that a window of the next run exceeds with probability 1 - q, on a logarithmic scale.

    by_run: scores of each run; apart: how many windows that share no samples they are worth; 0 where q is no tail.
    """
    normal = NormalDist().inv_cdf(q)
    if normal < LEAST_NORMAL:
        return 0.0
    logs = [np.log(np.maximum(scores, LEAST)) for scores in by_run]
    levels, n = np.array([np.median(log) for log in logs]), len(logs)
    around = np.concatenate([log - level for log, level in zip(logs, levels, strict=True)])
    within = np.exp(np.clip(around, -extremes.FARTHEST, extremes.FARTHEST))
    counted = extremes.promised(float(np.quantile(within, q)), float(np.median(within)), q, apart)
    of_windows = (math.log(counted) / normal) ** 2
    of_runs = float(levels.var(ddof=1)) * (1 + 1 / n)
    variance = of_runs + of_windows
    if variance <= 0:
        return _score(float(levels.mean()))
    freedom = variance**2 / (of_runs**2 / (n - 1) + of_windows**2 / max(4.0, apart - 1))
    return _score(float(levels.mean()) + extremes.student_quantile(q, freedom) * math.sqrt(variance))


def _score(log: float) -> float:
    """The score of a logarithm; levels may be so far apart that no number holds it."""
    return math.exp(min(max(log, -FARTHEST_LOG), FARTHEST_LOG))


def unseen(card: Card, data: Data, rows: NDArray[np.bool_], held: Array, errors: Callable[[Array], Floats]) -> float:
    """By how much windows of a machine score higher that the standardisation was not fitted to: the median over blocks
    of its time, at least 1 and at most `MOST`.

    data: standardised windows that are learnt from, of all machines; rows: which (n,) are the machine's; held: those
    that are held back, which share no samples with these; errors: scores of windows.
    """
    refits = card.image is None and card.scaling != "file" and all(c.condition is None for c in card.input_channels)
    if not refits or rows.sum() < LEAST_SHARE * (len(rows) + len(held)):
        return 1.0
    ratios = []
    for block, near in _blocks(data, rows):
        others = np.concatenate([np.delete(data.x, near, axis=0), held])
        usual = float(np.median(errors(data.x[block])))
        if len(others) >= LEAST_FIT and usual > LEAST:
            elsewhere = standardise.fit(others, card)
            ratios.append(float(np.median(errors(elsewhere(data.x[block])))) / usual)
    return min(MOST, max(1.0, float(np.median(ratios)))) if ratios else 1.0


def _blocks(data: Data, rows: NDArray[np.bool_]) -> list[tuple[NDArray[np.intp], NDArray[np.intp]]]:
    """Blocks of each run of a machine: its windows, and those that share samples with one of them too."""
    found, units = [], data.units if len(data.units) else np.zeros(len(rows), np.int64)
    for unit in np.unique(units[rows]):
        mine = np.flatnonzero(rows & (units == unit))
        time = np.cumsum(data.shares[mine] if len(data.shares) else np.ones(len(mine)))  # in lengths of a window
        edges = np.linspace(time[0], time[-1], BLOCKS + 1)
        for low, high in pairwise(edges):
            block = mine[(time >= low) & (time <= high)]
            if len(block):
                found.append((block, mine[(time > low - 1) & (time < high + 1)]))
    return found
