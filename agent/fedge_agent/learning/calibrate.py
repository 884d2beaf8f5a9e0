# SPDX-License-Identifier: Apache-2.0
"""Calibrate a classifier's probabilities to this site, where its held-back units show that this helps. Pure.

A temperature, or a temperature and biases of the classes, is fitted to what decides here (`training.calibration`). It
is taken only where units that it was not fitted on gain by it, and by more than chance would have it. The biases, which
alone can change the most probable class, have to gain more clearly, beside the temperature, and to find classes as
often as before.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from fedge_models.graph.card import Card
from fedge_models.training import calibration
from fedge_models.training.calibration import Calibration
from fedge_models.training.student import two_sided
from numpy.typing import NDArray

from ..samples.units import Summary
from .mixture import Blend
from .training import Data

LEAST_UNITS, LEAST_SAMPLES = 3, 50  # held back; fewer show too little of other units
LEAST_OF_CLASS = 5  # held-back samples of a class with a bias
SURE, SURE_OF_BIASES = 0.68, 0.8  # two-sided: a gain by chance is as large once in six, and once in ten times
LEAST_GAIN = 1e-3  # of log-loss; less is not worth another number
PARTS = 10  # into which units are divided to judge a fit by those that it has not seen
MOST = 2000  # samples that are looked at

Floats = NDArray[np.float64]
Labels = NDArray[np.int64]


class Judged(NamedTuple):
    """What probabilities are worth on units that the calibration was not fitted on: without it, and with it."""

    log_loss: tuple[float, float]
    error: tuple[float, float]  # expected calibration error


class Calibrated(NamedTuple):
    """How the probabilities of a model are calibrated at this site; `calibration` None: they are as the model says."""

    calibration: Calibration | None = None
    why: str = ""  # there is none, in words
    samples: int = 0  # held-back ones with a label
    units: int = 0
    judged: Judged | None = None

    def status(self, card: Card) -> dict[str, Any]:
        """For the status page."""
        found, judged = self.calibration, self.judged
        return {
            "temperature": 1.0 if found is None else found.temperature,
            "biases": {} if found is None else dict(zip(card.labels, found.biases.tolist(), strict=True)),
            "why_none": self.why,
            "samples": self.samples,
            "units": self.units,
            "log_loss": None if judged is None else list(judged.log_loss),
            "error": None if judged is None else list(judged.error),
        }


def calibrate(blend: Blend, held: Data, learnt: Data, judged_by: Summary) -> Calibrated | None:
    """Return how the probabilities of what serves are calibrated; None for another task.

    held: held-back samples; learnt: the others; judged_by: what is held back.
    """
    if blend.card.task != "classify":
        return None
    held = _of_whole_units(held, learnt)
    units = len(np.unique(held.units)) if judged_by.held else 0
    found = Calibrated(samples=len(held.y), units=units)
    if units < LEAST_UNITS or len(held.y) < LEAST_SAMPLES:
        few = f"{units} held-back {judged_by.kind}{'s' if units != 1 else ''} with {len(held.y)} labelled samples"
        return found._replace(why=f"{few}, of {LEAST_UNITS} with {LEAST_SAMPLES}")
    rows = np.linspace(0, len(held.y) - 1, min(MOST, len(held.y))).astype(np.int64)
    logits = blend.predict(held.x[rows]).astype(np.float64)
    finite = np.isfinite(logits).all(axis=1)
    chosen = choose(logits[finite], held.y[rows][finite].astype(np.int64), held.units[rows][finite])
    return chosen._replace(samples=len(held.y), units=units)


def _of_whole_units(held: Data, learnt: Data) -> Data:
    """Keep held-back samples of whole units. Where a class has none, blocks of units that are learnt from judge it;
    these are left out."""
    if len(held.units) != len(held.y):
        return held.part(np.zeros(len(held.y), np.bool_))
    most = int(max(held.y.max(initial=0), learnt.y.max(initial=0))) + 1
    mine, theirs = (d.units * most + d.y.astype(np.int64) for d in (held, learnt))
    return held.part(np.isin(mine, theirs, invert=True))


def choose(logits: Floats, labels: Labels, units: NDArray[np.int64]) -> Calibrated:
    """Choose by logits (n, classes) of held-back samples, their labels (n,) and units (n,)."""
    if len(np.unique(units)) < LEAST_UNITS:
        return Calibrated(why="the model gives no numbers for most held-back samples")
    none, chosen, with_biases = logits, logits, None
    for biases in (False, True):
        tried = _unseen(logits, labels, units, biases)
        sure = SURE_OF_BIASES if biases else SURE
        if _gains(chosen, tried, labels, units, sure) and (not biases or _finds_as_many(chosen, tried, labels)):
            chosen, with_biases = tried, biases
    losses = [float(calibration.row_losses(z, labels).mean()) for z in (none, chosen)]
    judged = Judged((losses[0], losses[1]), (calibration.error(none, labels), calibration.error(chosen, labels)))
    if with_biases is None:
        return Calibrated(why="it does not help on held-back units", judged=judged)
    return Calibrated(calibration.fit(logits, labels, _free(logits, labels, with_biases)), judged=judged)


def _free(logits: Floats, labels: Labels, biases: bool) -> NDArray[np.bool_]:
    """Which classes (k,) have a bias: those with enough samples."""
    if not biases:
        return np.zeros(logits.shape[1], np.bool_)
    found: NDArray[np.bool_] = np.bincount(labels, minlength=logits.shape[1]) >= LEAST_OF_CLASS
    return found


def _unseen(logits: Floats, labels: Labels, units: NDArray[np.int64], biases: bool) -> Floats:
    """Calibrated logits, each row by a fit to the rows of other units."""
    part = _parts(units)
    found = np.empty_like(logits)
    for i in np.unique(part):
        rest, mine = part != i, part == i
        fitted = calibration.fit(logits[rest], labels[rest], _free(logits[rest], labels[rest], biases))
        found[mine] = fitted.applied(logits[mine])
    return found


def _parts(units: NDArray[np.int64]) -> NDArray[np.int64]:
    """The part (n,) of each row's unit, in turn."""
    found: NDArray[np.int64] = np.unique(units, return_inverse=True)[1] % PARTS
    return found


def _gains(before: Floats, after: Floats, labels: Labels, units: NDArray[np.int64], sure: float) -> bool:
    """Whether log-loss falls, by more than its standard error over units allows (Student's t)."""
    rows = calibration.row_losses(before, labels) - calibration.row_losses(after, labels)
    _, at = np.unique(units, return_inverse=True)
    sizes = np.bincount(at)
    sums = np.bincount(at, weights=rows)
    gain = rows.mean()
    spread = math.sqrt(float(((sums - gain * sizes) ** 2).sum()) * len(sizes) / (len(sizes) - 1)) / len(rows)
    return bool(gain > max(two_sided(sure, len(sizes) - 1) * spread, LEAST_GAIN))


def _finds_as_many(before: Floats, after: Floats, labels: Labels) -> bool:
    """Whether classes are found as often as before, in the mean over the classes: a rare fault counts like the rest."""
    classes = np.unique(labels)
    was, now = (z.argmax(axis=1) == labels for z in (before, after))
    return bool(np.mean([float(now[labels == c].mean()) - float(was[labels == c].mean()) for c in classes]) >= 0)
