# SPDX-License-Identifier: Apache-2.0
"""Calibrate a classifier's probabilities to this site, where its held-back units show that this helps. Pure.

A temperature, or a temperature and biases of the classes, is fitted to what decides here (`training.calibration`). It
is taken only where units that it was not fitted on gain by it, and by more than chance would have it. The biases, which
alone can change the most probable class, have to gain more clearly, beside the temperature, and to find classes as
often as before. Of labels of which several may hold, each is calibrated by itself; there the temperature, too, has to
find as many at the label's limit.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from fedge_models.graph.card import Card
from fedge_models.training import calibration
from fedge_models.training.calibration import Calibration, LabelCalibration
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
NO_HELP = "it does not help on held-back units"

Floats = NDArray[np.float64]
Labels = NDArray[np.int64]


class Judged(NamedTuple):
    """What probabilities are worth on units that the calibration was not fitted on: without it, and with it."""

    log_loss: tuple[float, float]
    error: tuple[float, float]  # expected calibration error


class Calibrated(NamedTuple):
    """How the probabilities of a model are calibrated at this site; `calibration` None: they are as the model says."""

    calibration: Calibration | LabelCalibration | None = None
    why: str = ""  # there is none, in words
    samples: int = 0  # held-back ones with a label
    units: int = 0
    judged: Judged | None = None

    def status(self, card: Card) -> dict[str, Any]:
        """For the status page."""
        found, judged = self.calibration, self.judged
        of_labels = found.temperatures.tolist() if isinstance(found, LabelCalibration) else []
        return {
            "temperature": found.temperature if isinstance(found, Calibration) else 1.0,
            "temperatures": dict(zip(card.labels, of_labels, strict=False)),  # of labels that may hold together
            "biases": {} if found is None else dict(zip(card.labels, found.biases.tolist(), strict=True)),
            "why_none": self.why,
            "samples": self.samples,
            "units": self.units,
            "log_loss": None if judged is None else list(judged.log_loss),
            "error": None if judged is None else list(judged.error),
        }


def calibrate(blend: Blend, held: Data, learnt: Data, judged_by: Summary) -> Calibrated | None:
    """Return how the probabilities of what serves are calibrated; None for a task that has none.

    held: held-back samples; learnt: the others; judged_by: what is held back.
    """
    if blend.card.task not in ("classify", "multilabel"):
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
    labels, of_rows = held.y[rows][finite].astype(np.int64), held.units[rows][finite]
    if blend.card.task == "multilabel":
        chosen = choose_of_labels(logits[finite], labels, of_rows, np.array(blend.card.limits))
    else:
        chosen = choose(logits[finite], labels, of_rows)
    return chosen._replace(samples=len(held.y), units=units)


def _of_whole_units(held: Data, learnt: Data) -> Data:
    """Keep held-back samples of whole units. Where a class has none, blocks of units that are learnt from judge it;
    these are left out."""
    if len(held.units) != len(held.y):
        return held.part(np.zeros(len(held.y), np.bool_))
    if held.y.ndim > 1:  # several labels: a unit is learnt from, or not
        return held.part(np.isin(held.units, learnt.units, invert=True))
    most = int(max(held.y.max(initial=0), learnt.y.max(initial=0))) + 1
    mine, theirs = (d.units * most + d.y.astype(np.int64) for d in (held, learnt))
    return held.part(np.isin(mine, theirs, invert=True))


def choose(logits: Floats, labels: Labels, units: NDArray[np.int64], least: Floats | None = None) -> Calibrated:
    """Choose by logits (n, classes) of held-back samples, their labels (n,) and units (n,).

    least: how far a class's logit has to be above the others' before it is called (classes,); a temperature, too, may
    then change what is called. None: the most probable class is called.
    """
    if len(np.unique(units)) < LEAST_UNITS:
        return Calibrated(why="the model gives no numbers for most held-back samples")
    none, chosen, with_biases = logits, logits, None
    for biases in (False, True):
        tried, calls_others = _unseen(logits, labels, units, biases), biases or least is not None
        sure = SURE_OF_BIASES if biases else SURE
        if not _gains(chosen, tried, labels, units, sure):
            continue
        if not calls_others or _finds_as_many(chosen, tried, labels, 0.0 if least is None else least):
            chosen, with_biases = tried, biases
    losses = [float(calibration.row_losses(z, labels).mean()) for z in (none, chosen)]
    judged = Judged((losses[0], losses[1]), (calibration.error(none, labels), calibration.error(chosen, labels)))
    if with_biases is None:
        return Calibrated(why=NO_HELP, judged=judged)
    return Calibrated(calibration.fit(logits, labels, _free(logits, labels, with_biases)), judged=judged)


def choose_of_labels(logits: Floats, holds: Labels, units: NDArray[np.int64], limits: Floats) -> Calibrated:
    """Choose for each of several labels by itself: logits and whether it holds (n, labels), limits (labels,).

    A label that held-back samples hardly have, or hardly lack, stays as it is.
    """
    found, judged = list[Calibration | None](), list[Judged]()
    for z, y, limit in zip(logits.T, holds.T, limits.tolist(), strict=True):
        few = min(int(y.sum()), len(y) - int(y.sum())) < LEAST_OF_CLASS
        one = choose(calibration.two_classes(z), y, units, np.array([0.0, math.log(limit / (1 - limit))]))
        if one.judged is None:
            return one
        assert not isinstance(one.calibration, LabelCalibration)
        found.append(None if few else one.calibration)
        before = Judged((one.judged.log_loss[0],) * 2, (one.judged.error[0],) * 2)
        judged.append(before if few else one.judged)
    mean = np.mean(judged, axis=0).tolist()
    of_all = Judged((mean[0][0], mean[0][1]), (mean[1][0], mean[1][1]))
    if not any(found):
        return Calibrated(why=NO_HELP, judged=of_all)
    return Calibrated(calibration.of_labels(found), judged=of_all)


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


def _finds_as_many(before: Floats, after: Floats, labels: Labels, least: Floats | float = 0.0) -> bool:
    """Whether classes are found as often as before, in the mean over the classes: a rare fault counts like the rest."""
    classes = np.unique(labels)
    was, now = ((z - least).argmax(axis=1) == labels for z in (before, after))
    return bool(np.mean([float(now[labels == c].mean()) - float(was[labels == c].mean()) for c in classes]) >= 0)
