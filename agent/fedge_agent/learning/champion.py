# SPDX-License-Identifier: Apache-2.0
"""How much this site's own model counts beside the release, by held-back samples of the site. Pure.

The share is the mean of what is believed of it after seeing the held-back samples, if before each share from 0 to 1 was
as likely (Bayesian averaging over the weight of a mixture: Hoeting et al. 1999, Yao et al. 2018). With little data it
is a half: neither a bad release nor a poor model of the site's own decides alone. Data that speak clearly move it to
one of them.

A class that the site has no samples of is left to the release. Held-back samples of other classes show how often it
reports that class wrongly. Its probability gets so small a weight there that these false alarms stay below `MOST_FALSE`
on average: else a bad release would decide everything here by naming what the site has never met.

While no release is there, the model of the file is compared in its place. If that file is trained (`graph.untrained`
says of a starter that it is not), it is guarded: nobody hostile sent it, and somebody trusts it. So the own model
counts only by units of the site that are held back whole, and not at all unless the mean of both clearly explains them
better than the file alone.

Classes count alike, however rare they are: a fault is rare, and what the model is there for. An anomaly model has
no labels of faults, so it is judged by how well its scores tell normal windows from copies in which faults are planted:
by reconstruction alone, a model that reproduces everything, faults too, would be the best.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from fedge_models.graph.card import Card
from fedge_models.graph.trainable import TrainableGraph
from fedge_models.messages.quantize import Floats
from fedge_models.training import objective
from numpy.typing import NDArray

from ..types import Array
from .mixture import Blend, Mixing, outputs
from .training import Data

SHARES = np.linspace(0, 1, 17)
CLEAR = 0.95  # a share beyond this, or below 1 less this, lets one of the two decide alone
ODDS = math.log(CLEAR / (1 - CLEAR))
MOST = 2000  # held-back samples that are looked at
PLANTED = 200  # faults; fewer where samples are large
FEWEST, MOST_VALUES = 20, 2**22  # planted faults of a large sample; values in all of them together
PART = 2**18  # values whose errors are computed at once, to bound memory
LARGEST = 4.0  # standard deviations by which a planted fault moves a value; the smallest fault is a quarter
TOGETHER = 3  # values that it changes, at most
TINY = 1e-12
NOISE = 1e-4  # squared standard deviations: of two errors below a hundredth of one, neither model is the better
MOST_FALSE = 0.05  # probability of classes that are not there; honest releases gave at most 0.03 on the recordings
LEAST_KNOWN = {"classify": 2, "multilabel": 1}  # classes or labels; an own model of one class has nothing to tell

Judged = tuple[Array, Array, NDArray[Any]]  # outputs of the own model and of the release, and what is right


class Evidence(NamedTuple):
    """What held-back samples say of each share: gains, the mean log-likelihood of each of `SHARES`, and how many
    samples are behind it."""

    gains: NDArray[np.float64]
    samples: float

    def share(self, guarded: bool) -> float:
        """The share that is believed; guarded: 0 unless it clearly explains the samples better than the release alone.

        Clearly: with a probability above `CLEAR`, if before both were as likely.
        """
        found = believed(self.gains, self.samples)
        better = (np.interp(found, SHARES, self.gains) - self.gains[0]) * self.samples  # logarithm of the odds
        return 0.0 if guarded and better < ODDS else found


def choose(
    graph: TrainableGraph, release: Floats, own: Floats | None, data: Data, held: Data, guarded: bool = False
) -> Blend:
    """Return how the release (P,), tuned, and the own model (P,) decide together.

    data: what the own model is trained on; held: held-back samples, for anomaly normal ones; guarded: in place of a
    release there is a trained file, and `held` are of whole units.
    """
    least, known, learnt = LEAST_KNOWN.get(graph.card.task, 0), None, None
    if least:
        learnt = _met(graph.card, data)
        known = learnt & _met(graph.card, held)
    if own is None or (learnt is not None and learnt.sum() < least):
        return Blend(graph, release)
    if not len(held.x) or (known is not None and known.sum() < least):  # nothing to judge by
        if guarded:
            return Blend(graph, release)
        return Blend(graph, release, own, 1 / 2, learnt, _counts(graph, release, learnt, held if len(held.x) else data))
    some = _some(held)
    if graph.card.task == "anomaly":
        share = _by_planted(graph, release, own, some.x, guarded)
    else:
        own_gives, release_gives = (outputs(graph, p, some.x) for p in (own, release))
        mine, theirs = _sound(own_gives), _sound(release_gives)
        both = mine & theirs
        judged = own_gives[both], release_gives[both], some.y[both]
        share = _overflow(mine, theirs) if _is_broken(both) else share_of_own(graph.card, judged, known, guarded)
    return Blend(graph, release, own, clear(share), known, _counts(graph, release, known, held))


def _counts(graph: TrainableGraph, release: Floats, known: NDArray[np.bool_] | None, data: Data) -> Array | None:
    """`false_alarms` of a release (P,) on samples."""
    if known is None or known.all():
        return None
    some = _some(data)
    gives = outputs(graph, release, some.x)
    sound = _sound(gives)
    return false_alarms(graph.card, gives[sound], some.y[sound], known)


def false_alarms(card: Card, release: Array, y: NDArray[Any], known: NDArray[np.bool_]) -> Array | None:
    """Return the weight of the release for each class or label that is not known here (k,); 1 for the known ones.

    release: its logits (n, k) for held-back samples whose classes or labels are y. None: all weights are 1.
    """
    if card.task == "classify":
        labels = y.astype(np.int64)
        some = known[labels]
        z = release[some].astype(np.float64)
        named = np.exp(z - np.logaddexp.reduce(z, axis=1, keepdims=True))[:, ~known].sum(axis=1)
        false = (
            float(np.mean([named[labels[some] == c].mean() for c in np.unique(labels[some])])) if some.any() else 0.0
        )
        rates = np.where(known, 0.0, false)
    else:
        never = ~known & ~np.logical_or.reduce(y > 0, axis=0) & (len(y) > 0)
        named = (1 / (1 + np.exp(-np.clip(release, -50, 50)))).sum(axis=0) / max(1, len(y))
        rates = np.where(never, named, 0.0)
    if rates.max(initial=0) <= MOST_FALSE:
        return None
    return (MOST_FALSE / np.maximum(rates, MOST_FALSE)).astype(np.float32)


def _by_planted(graph: TrainableGraph, release: Floats, own: Floats, x: Array, guarded: bool) -> float:
    """The share by how well faults that are planted in normal samples x are told from these."""
    normal = _squares(graph, own, release, x)
    mine, theirs = np.isfinite(normal[:, 0]), np.isfinite(normal[:, 2])
    both = mine & theirs
    if _is_broken(both):
        return _overflow(mine, theirs)
    faults = _squares(graph, own, release, planted(x[both], np.random.default_rng(0)))
    faults = faults[np.isfinite(faults).all(axis=1)]
    if not len(faults):
        return 0.0 if guarded else 1 / 2
    return Evidence(_told_apart(_mixed(normal[both]), _mixed(faults)), int(both.sum())).share(guarded)


def _sound(outputs: Array) -> NDArray[np.bool_]:
    """Which rows (n,) are numbers throughout."""
    found: NDArray[np.bool_] = np.logical_and.reduce(np.isfinite(outputs).reshape(len(outputs), -1), axis=1)
    return found


def _is_broken(sound: NDArray[np.bool_]) -> bool:
    """Whether most samples cannot be compared, because an output overflows."""
    return bool(2 * sound.sum() < len(sound))


def _overflow(mine: NDArray[np.bool_], theirs: NDArray[np.bool_]) -> float:
    """The share where one gives numbers for more samples than the other."""
    return float(mine.sum() > theirs.sum())


def clear(share: float) -> float:
    """The share, or 0 or 1 where it is clearly one of the two."""
    return 0.0 if share < 1 - CLEAR else 1.0 if share > CLEAR else share


def believed(gains: NDArray[np.float64], samples: float) -> float:
    """The mean share, from the mean log-likelihood of each of `SHARES` and the number of samples behind it."""
    weights = np.exp((gains - gains.max()) * samples)
    return float(weights @ SHARES / weights.sum())


def share_of_own(card: Card, judged: Judged, known: NDArray[np.bool_] | None = None, guarded: bool = False) -> float:
    """The share by held-back samples with what is right; of another task than anomaly."""
    return _evidence(card, judged, known).share(guarded)


def _evidence(card: Card, judged: Judged, known: NDArray[np.bool_] | None) -> Evidence:
    if card.task == "classify":
        return _by_classes(judged, known)
    if card.task == "multilabel":
        return _by_labels(judged, known)
    own, release, y = judged
    right = objective.scaled(card, y, own.shape[1:])
    errors = np.maximum(_mixed(_products(own, release, right)).mean(axis=1), NOISE)
    return Evidence(-errors / (2 * errors.min()), len(y))


def planted(x: Array, rng: np.random.Generator) -> Array:
    """Copies of standardised samples (n, ...) in which up to `TOGETHER` values are moved, as a fault would do."""
    size = math.prod(x.shape[1:])
    number = max(FEWEST, min(PLANTED, MOST_VALUES // size))
    found = x[rng.integers(0, len(x), number)]
    rows = found.reshape(number, size)
    for row, count, far in zip(rows, rng.integers(1, TOGETHER + 1, number), rng.uniform(0.25, 1, number), strict=True):
        chosen = rng.choice(size, min(int(count), size), replace=False)
        row[chosen] += far * LARGEST * rng.choice((-1, 1), len(chosen))
    return found


def _met(card: Card, data: Data) -> NDArray[np.bool_]:
    """Which classes (k,) the samples have; which labels some of them have and some lack."""
    if card.task == "classify":
        return np.bincount(data.y.astype(np.int64), minlength=len(card.labels)) > 0
    y = data.y.reshape(len(data.y), len(card.labels))
    found: NDArray[np.bool_] = np.logical_or.reduce(y > 0, axis=0) & np.logical_or.reduce(y <= 0, axis=0)
    return found


def _some(held: Data) -> Data:
    """At most `MOST` of the samples, evenly spread."""
    if len(held.x) <= MOST:
        return held
    rows = np.linspace(0, len(held.x) - 1, MOST).astype(np.int64)
    return Data(held.x[rows], held.y[rows])


def _by_classes(judged: Judged, known: NDArray[np.bool_] | None) -> Evidence:
    own, release, y = judged
    labels = y.astype(np.int64)
    classes, counts = np.unique(labels, return_counts=True)
    gains = [_log_probability(Mixing("classify", s, known)(own, release), labels) for s in SHARES]
    means = np.array([np.mean([row[labels == c].mean() for c in classes]) for row in gains])
    return Evidence(means, len(classes) ** 2 / float((1 / counts).sum()))  # the effective number of a balanced mean


def _by_labels(judged: Judged, known: NDArray[np.bool_] | None) -> Evidence:
    own, release, y = judged
    total, number = np.zeros(len(SHARES)), 0.0
    for i in np.flatnonzero(known if known is not None else np.ones(y.shape[1], np.bool_)):
        with_label = y[:, i] > 0
        sides = (~with_label, with_label)
        mixed = [Mixing("multilabel", s)(own[:, i], release[:, i]) for s in SHARES]
        logs = [-np.logaddexp(0, np.where(with_label, -z, z)) for z in mixed]
        weight = 4 / sum(1 / max(int(side.sum()), 1) for side in sides)
        total += weight * np.array([np.mean([row[side].mean() for side in sides]) for row in logs])
        number += weight
    return Evidence(total / max(number, TINY), number / max(1, y.shape[1]))


def _log_probability(logits: Array, labels: NDArray[np.int64]) -> NDArray[np.float64]:
    z = logits.astype(np.float64)
    found: NDArray[np.float64] = z[np.arange(len(z)), labels] - np.logaddexp.reduce(z, axis=1)
    return found


def _squares(graph: TrainableGraph, own: Floats, release: Floats, x: Array) -> NDArray[np.float64]:
    """`_products` of what the two reconstruct of x (n, ...), in bounded memory."""
    rows = max(1, PART // math.prod(x.shape[1:]))
    parts = [x[i : i + rows] for i in range(0, len(x), rows)]
    found = [_products(outputs(graph, own, part), outputs(graph, release, part), part) for part in parts]
    return np.concatenate(found)


def _products(own: Array, release: Array, right: Array) -> NDArray[np.float64]:
    """Mean squares and product of what the two are off, by row (n, 3): own squared, own times release, release squared.

    Of each share these give the error of the mixture (`_mixed`). They are not finite where an output is not.
    """
    a, b, y = (np.asarray(values, np.float64).reshape(len(own), -1) for values in (own, release, right))
    with np.errstate(all="ignore"):
        a, b = a - y, b - y
        return np.stack([np.einsum("ij,ij->i", *pair) for pair in ((a, a), (a, b), (b, b))], axis=1) / y.shape[1]


def _mixed(products: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean squared error of each share and row (shares, n)."""
    s = SHARES[:, None]
    own, both, release = products.T
    return np.maximum(s**2 * own + 2 * s * (1 - s) * both + (1 - s) ** 2 * release, 0)


def _told_apart(normal: NDArray[np.float64], faults: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean log-likelihood, by share, of telling windows with faults from normal ones by their scores (shares, n).

    Of each share by the line that divides two Gaussians of log scores with a common variance (Fisher 1936).
    """
    found = []
    for low, high in zip(np.log(normal + TINY), np.log(faults + TINY), strict=True):
        apart, middle = high.mean() - low.mean(), (high.mean() + low.mean()) / 2
        slope = max(apart, 0) / max((low.var() + high.var()) / 2, TINY)
        found.append(
            -(np.logaddexp(0, slope * (low - middle)).mean() + np.logaddexp(0, -slope * (high - middle)).mean()) / 2
        )
    return np.array(found)
